// The reverse proxies that the documentation describes, with the configuration that it prints.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:net";
import { freePort, until } from "./stentor.mjs";

const docs = new URL("../../docs/operations/", import.meta.url);
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

export const isInstalled = (program) => spawnSync(program, ["version"], { env: { PATH } }).error === undefined;

/** The first block of a language on a page. */
function block(page, language) {
  const found = readFileSync(new URL(page, docs), "utf8").match(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``));
  if (!found) throw new Error(`${page} has no block of ${language}`);
  return found[1];
}

/** Replaces what the page shows by what it stands for here. A page that no longer says it is a failure. */
function adapt(text, replacements) {
  for (const [from, to] of replacements) {
    if (!text.includes(from)) throw new Error(`the documentation no longer says: ${from}`);
    text = text.replaceAll(from, to);
  }
  return text;
}

const isOpen = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true) || socket.destroy());
    socket.once("error", () => resolve(false));
  });

class Proxy {
  /** `url` is the proxy's address. */
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "stentor-proxy-"));
  }

  async run(program, args, ports) {
    this.child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, PATH, HOME: this.folder } });
    this.errors = "";
    this.child.stderr.on("data", (text) => (this.errors = (this.errors + text).slice(-4000)));
    this.ended = new Promise((resolve) => this.child.once("exit", resolve));
    const isUp = async () => {
      if (this.child.exitCode !== null) throw new Error(`${program} ended: ${this.errors}`);
      return (await Promise.all(ports.map(isOpen))).every(Boolean);
    };
    await until(() => `${program} listens: ${this.errors}`, isUp);
  }

  async stop() {
    this.child.kill("SIGTERM");
    await this.ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class Nginx extends Proxy {
  /** nginx before a server, by TLS and HTTP/2 as the page has it (`tls`), and in the open (`url`). */
  static async start(server, { readTimeout = "75s", httpVersion = "1.1" } = {}) {
    const proxy = new Nginx();
    const [tlsPort, port] = [await freePort(), await freePort()];
    const at = (name) => join(proxy.folder, name);
    const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    execFileSync("openssl", [...args, ...name, "-keyout", at("key"), "-out", at("cert")], { stdio: "ignore" });
    proxy.ca = readFileSync(at("cert"));
    const site = adapt(block("nginx.md", "nginx"), [
      ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
      ["listen 443 ssl http2;", `listen 127.0.0.1:${tlsPort} ssl http2; listen 127.0.0.1:${port};`],
      ["events.example.org;", "localhost;"],
      ["/etc/ssl/events.example.org.pem", at("cert")],
      ["/etc/ssl/events.example.org.key", at("key")],
      ["/var/log/nginx/stentor.log", at("access.log")],
      ["proxy_read_timeout 75s;", `proxy_read_timeout ${readTimeout};`],
      ["proxy_http_version 1.1;", `proxy_http_version ${httpVersion};`],
    ]);
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((of) => `${of}_temp_path ${at(of)};`);
    writeFileSync(
      at("nginx.conf"),
      `daemon off; pid ${at("pid")}; error_log stderr error; worker_processes 2; worker_shutdown_timeout 1s;
       ${process.getuid() === 0 ? "user root;" : ""}
       events { worker_connections 512; }
       http { ${temporary.join(" ")}\n${site} }`,
    );
    proxy.tls = `https://localhost:${tlsPort}`;
    proxy.url = `http://127.0.0.1:${port}`;
    proxy.accessLog = () => readFileSync(at("access.log"), "utf8");
    proxy.spooled = () => readdirSync(at("proxy"), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    await proxy.run("nginx", ["-p", proxy.folder, "-c", at("nginx.conf"), "-e", "stderr"], [tlsPort, port]);
    return proxy;
  }

  reload() {
    this.child.kill("SIGHUP");
  }
}

export class Caddy extends Proxy {
  static async start(server) {
    const proxy = new Caddy();
    const [port, admin] = [await freePort(), await freePort()];
    const log = join(proxy.folder, "access.log");
    const site = adapt(block("caddy.md", "caddyfile"), [
      ["127.0.0.1:8080", `127.0.0.1:${server.port}`],
      ["events.example.org {", `http://127.0.0.1:${port} {`],
      ["grace_period 10s", `grace_period 1s\n\tadmin 127.0.0.1:${admin}\n\tauto_https off`],
      ["log {", `log {\n\t\toutput file ${log}`],
    ]);
    proxy.file = join(proxy.folder, "Caddyfile");
    writeFileSync(proxy.file, site);
    proxy.admin = `127.0.0.1:${admin}`;
    proxy.url = `http://127.0.0.1:${port}`;
    proxy.accessLog = () => readFileSync(log, "utf8");
    await proxy.run("caddy", ["run", "--config", proxy.file, "--adapter", "caddyfile"], [port]);
    return proxy;
  }

  /** The same configuration, forced, so that Caddy does not find that nothing has changed. */
  reload() {
    const args = ["reload", "--force", "--config", this.file, "--adapter", "caddyfile", "--address", this.admin];
    execFileSync("caddy", args, { stdio: "ignore", env: { ...process.env, PATH, HOME: this.folder } });
  }
}
