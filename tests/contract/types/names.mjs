// Reads an AsyncAPI document, and writes the JSON list of the names that Modelina makes of it.
import { text } from "node:stream/consumers";
import { JavaGenerator, PythonGenerator, RustGenerator, TypeScriptGenerator } from "@asyncapi/modelina";

const document = JSON.parse(await text(process.stdin));
const names = [];
for (const Generator of [JavaGenerator, PythonGenerator, RustGenerator, TypeScriptGenerator])
  for (const model of await new Generator().generate(document))
    names.push(model.modelName, ...Object.keys(model.model.properties ?? {}));
process.stdout.write(JSON.stringify(names));
