// Reads a JSON list of objects, and writes for each the list of what its model finds wrong: null
// where there is no model. Run from a directory that has the packages.

import { text } from "node:stream/consumers";

const PACKAGES = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

async function problems(object) {
  const [group] = object.apiVersion.split("/");
  if (!(group in PACKAGES)) return null;
  const models = await import(`${PACKAGES[group]}/${object.apiVersion}`);
  const Model = models[object.kind];
  if (Model === undefined) return null;
  try {
    new Model(object).validate();
    return [];
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    return error.errors.map((one) => `${one.instancePath}: ${one.message}`);
  }
}

const objects = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(await Promise.all(objects.map(problems))));
