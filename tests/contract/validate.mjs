// Reads an AsyncAPI document, and writes the JSON list of what the official parser has to say of
// it. Run from a directory that has the parser.

import { text } from "node:stream/consumers";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(await text(process.stdin));
const said = diagnostics.map((one) => ({
  severity: ["error", "warning", "information", "hint"][one.severity],
  code: one.code,
  place: one.path.join("."),
  message: one.message,
}));
if (document === undefined && said.length === 0) throw new Error("no document, and no reason");
process.stdout.write(JSON.stringify(said));
