// Compiles each schema that is named with ajv in strict mode; the annotations of ours are declared, as any reader must.
const fs = require("fs");
const Ajv = require("ajv/dist/2020");

for (const path of process.argv.slice(2)) {
  const ajv = new Ajv({ strict: true, strictRequired: false, allowUnionTypes: true });
  ajv.addVocabulary(["errorMessage", "mends", "defaultSnippets"]);
  ajv.compile(JSON.parse(fs.readFileSync(path, "utf8")));
}
