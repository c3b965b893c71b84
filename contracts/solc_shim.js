#!/usr/bin/env node
// solc-js, spoken to as py-solc-x speaks to a native solc: `--version` and `--standard-json`.
//
// solc-js's own command does not do: without an SMT solver on PATH it prints a remark before the
// JSON, and it does not know --allow-paths and --overwrite. The package is found by NODE_PATH.
// Every source is embedded in the input, so no import callback exists and nothing is read.
"use strict";

const IGNORED_WITH_VALUE = new Set(["--base-path", "--include-path", "--allow-paths", "-o"]);
const IGNORED = new Set(["--overwrite", "-"]);

function wanted(argv) {
  let verb = null;
  for (let i = 0; i < argv.length; i += 1) {
    const word = argv[i];
    if (word === "--version" || word === "--standard-json") verb = word;
    else if (IGNORED_WITH_VALUE.has(word)) i += 1;
    else if (!IGNORED.has(word)) return { unknown: word };
  }
  return { verb };
}

const { verb, unknown } = wanted(process.argv.slice(2));
if (unknown || !verb) {
  process.stderr.write(`solc shim: unknown option '${unknown || ""}'\n`);
  process.exit(1);
}

const solc = require("solc");

if (verb === "--version") {
  process.stdout.write("solc, the solidity compiler commandline interface\n");
  process.stdout.write(`Version: ${solc.version()}\n`);
} else {
  const input = require("fs").readFileSync(0, "utf8");
  process.stdout.write(`${solc.compile(input)}\n`);
}
