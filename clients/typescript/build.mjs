// Makes `dist`: the module that the server gives to browsers, and what stands around it, as JavaScript with types.
import { spawnSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// Set by whoever has built it and runs tests beside each other, which must not see it being made again.
if (process.env.STENTOR_CLIENT_BUILT) process.exit(0);
const here = dirname(fileURLToPath(import.meta.url));
copyFileSync(join(here, "../../static/stentor.js"), join(here, "src/stentor.js"));
rmSync(join(here, "dist"), { recursive: true, force: true });
const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
const { status } = spawnSync(process.execPath, [compiler, "-p", here], { stdio: "inherit" });
process.exit(status ?? 1);
