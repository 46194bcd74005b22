// A receiver of webhooks for the tests of a page.
import { createServer } from "node:http";

/** Answers with `status`, which may be changed, and keeps what it got. */
export async function receiver(t, status = 200) {
  const got = { status, requests: [] };
  const http = createServer((request, response) => {
    let body = "";
    request.on("data", (text) => (body += text));
    request.on("end", () => {
      got.requests.push({ headers: request.headers, body });
      response.writeHead(got.status, { "Content-Type": "application/json" }).end(got.status < 300 ? '{"ok":true}' : '{"error":"the database is away"}');
    });
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return Object.assign(got, { url: `http://127.0.0.1:${http.address().port}/webhook` });
}
