// Holds a document against the parser of the AsyncAPI initiative. Anything it has to say is an error.

import { readFileSync } from 'node:fs';

import { Parser } from '@asyncapi/parser';

const file = process.argv[2];
const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
const found = diagnostics.filter(({ severity }) => severity <= 1);
for (const { message, path, severity } of found) {
  console.error(`${severity === 0 ? 'error' : 'warning'} at ${path.join('.')}: ${message}`);
}
if (!document || found.length > 0) process.exit(1);
console.log(`${file}: AsyncAPI ${document.version()}, ${document.channels().length} channels, ${document.operations().length} operations`);
