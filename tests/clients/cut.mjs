// A connection between a client and the server that can be cut.
import { connect, createServer } from "node:net";

export class Proxy {
  #pairs = new Set();

  /** Listens on a free port and passes everything on to this one. */
  static async start(port) {
    const proxy = new Proxy();
    proxy.server = createServer((client) => {
      const upstream = connect(port, "127.0.0.1");
      const pair = { client, upstream };
      proxy.#pairs.add(pair);
      const end = () => {
        proxy.#pairs.delete(pair);
        client.destroy();
        upstream.destroy();
      };
      for (const [from, to] of [[client, upstream], [upstream, client]]) {
        from.pipe(to);
        from.on("error", end);
        from.on("close", end);
      }
    });
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  /** Cuts every connection in the middle of what it says. */
  cut() {
    for (const { client, upstream } of this.#pairs) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  }

  stop() {
    this.cut();
    this.server.close();
  }
}
