// Makes `dist`: the module that the server gives to browsers, in its parts, and what stands around it, as JavaScript with types.
import { spawnSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// Set by whoever has built it and runs tests beside each other, which must not see it being made again.
if (process.env.STENTOR_CLIENT_BUILT) process.exit(0);
const here = dirname(fileURLToPath(import.meta.url));
for (const made of ["src/stentor", "dist"]) rmSync(join(here, made), { recursive: true, force: true });
cpSync(join(here, "../../static/stentor"), join(here, "src/stentor"), { recursive: true });
const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
const { status } = spawnSync(process.execPath, [compiler, "-p", here], { stdio: "inherit" });
process.exit(status ?? 1);
