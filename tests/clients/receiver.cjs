// The receiver of the maps document: its handler and its verifier are as printed there, between the two markers.
const crypto = require("crypto");
const express = require("express");

/** Starts the receiver on a free port. `verified` gets each event that the document's code accepted, `raw` each request
 * as it came. */
exports.receiver = function receiver(webhookSecret) {
  const app = express();
  const verified = [];
  const raw = [];
  const refused = [];
  const processEvent = (event) => verified.push(event);
  const console = { log() {} };
  app.use(express.json({
    limit: "2mb",
    verify: (req, _res, body) => raw.push({ headers: req.headers, body: body.toString("utf8") }),
  }));
  app.use((req, res, next) => {
    res.on("finish", () => res.statusCode === 200 || refused.push({ status: res.statusCode, body: req.body }));
    next();
  });

  // ---- the document begins
  // Express.js webhook handler
  app.post('/webhook', (req, res) => {
    // Verify signature
    const signature = req.headers['x-wanderer-signature'];
    const timestamp = req.headers['x-wanderer-timestamp'];
    
    if (!verifyWebhookSignature(req.body, signature, timestamp, webhookSecret)) {
      return res.status(401).send('Invalid signature');
    }
    
    // Process the event
    const event = req.body;
    console.log(`Received ${event.type} event for map ${event.map_id}`);
    
    // Always respond quickly
    res.status(200).send('OK');
    
    // Process event asynchronously
    processEvent(event);
  });

  function verifyWebhookSignature(payload, signature, timestamp, secret) {
    const data = `${timestamp}.${JSON.stringify(payload)}`;
    const hmac = crypto.createHmac('sha256', secret);
    const expectedSignature = `sha256=${hmac.update(data).digest('hex')}`;
    
    return crypto.timingSafeEqual(
      Buffer.from(signature),
      Buffer.from(expectedSignature)
    );
  }
  // ---- the document ends

  return new Promise((resolve) => {
    const server = app.listen(0, "127.0.0.1", () => {
      const url = `http://127.0.0.1:${server.address().port}/webhook`;
      // the secret is known only after the webhook was made
      const setSecret = (secret) => (webhookSecret = secret);
      resolve({ url, verified, raw, refused, setSecret, close: () => server.close() });
    });
  });
};
