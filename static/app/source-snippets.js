// How to send to a source: code to copy in three languages, or where to click for providers that send by themselves.
import { html, useState } from "./html.js";
import { useResource } from "./store.js";
import { Code, Segments } from "./ui.js";
import { sourcePresets } from "./source-api.js";

const EVENT = '{"event_type": "purchase", "user_id": "user_123", "properties": {"amount": 9.99}}';

/** Standard Webhooks has its own shape. */
const STANDARD = '{"type": "purchase", "data": {"amount": 9.99}}';

const sample = (source) => (source.authentication === "standard" ? STANDARD : EVENT);

const LANGUAGES = [["curl", "curl"], ["node", "Node"], ["python", "Python"]];

/** A shell word that the shell takes as it stands. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @param secret the key, where it is known; else the code reads it from the environment */
export function HowToSend({ source, secret }) {
  const [language, setLanguage] = useState("curl");
  const presets = useResource(sourcePresets, []);
  const preset = presets.data?.find(({ name }) => name === source.authentication);
  const steps = STEPS[source.authentication] ?? (preset && !CODE[preset.name] ? [preset.setup] : null);
  if (steps) {
    return html`<section><h2>Set it up</h2><ol class="steps">${steps.map((step) => html`<li key=${step}>${step}</li>`)}</ol>
      <${Code} label="Address" text=${source.url} wrap />
      ${preset && html`<p class="small"><a href=${preset.documentation} rel="noreferrer">${preset.title}'s own documentation</a></p>`}</section>`;
  }
  const make = CODE[source.authentication] ?? CODE.none;
  return html`<section aria-labelledby="how-to-send">
    <header class="how-head"><h2 id="how-to-send">How to send</h2>
      <${Segments} label="Language" value=${language} options=${LANGUAGES} onChange=${setLanguage} /></header>
    ${source.authentication === "jwt" && html`<p
      class="hintbox">The token is signed with ${source.jwt?.algorithm ?? "the key of this source"} and has <code>exp</code>${source.jwt?.issuer && html`, <code>iss</code> ${source.jwt.issuer}`}${source.jwt?.audience && html`, <code>aud</code> ${source.jwt.audience}`}.</p>`}
    <${Code} label=${`Send with ${language}`} text=${make[language](source, secret)} />
  </section>`;
}

const STEPS = {
  github: ["On GitHub: Settings of the repository or organization, Webhooks, Add webhook.", "Payload URL: the address below. Content type: application/json. Secret: the key of this source.", "Choose the events. GitHub's ping arrives at once; the type of each event is its X-GitHub-Event."],
  stripe: ["In Stripe: Developers, Webhooks, Add destination, with the address below.", "The signing secret that Stripe shows (whsec_...) is the key of this source."],
  slack: ["In the settings of your Slack app: Event Subscriptions, Request URL: the address below. Slack's challenge is answered.", "The signing secret under Basic Information is the key of this source."],
};

const curl = (source, headers, before = "") => `${before}curl -X POST ${source.url} \\
  -H 'Content-Type: application/json' \\
${headers.map((header) => `  -H ${header} \\\n`).join("")}  -d ${before ? '"$BODY"' : quoted(sample(source))}`;

const node = (source, headers, before = "") => `${before}const body = JSON.stringify(${sample(source).replace(/"(\w+)":/g, "$1:")});
${headers.sign ?? ""}const answer = await fetch(${JSON.stringify(source.url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${headers.list ?? ""} },
  body,
});
console.log(answer.status, await answer.json());`;

const python = (source, headers, before = "") => `import json, urllib.request
${before}
body = json.dumps(${sample(source)}).encode()
${headers.sign ?? ""}request = urllib.request.Request(
    ${JSON.stringify(source.url)}, data=body,
    headers={"Content-Type": "application/json"${headers.list ?? ""}},
)
print(urllib.request.urlopen(request).read().decode())`;

const shell = (secret) => `SECRET=${secret ? quoted(secret) : "..."}\n`;
const js = (secret, name = "SECRET") => `const secret = ${secret ? JSON.stringify(secret) : `process.env.${name}`};\n`;
const py = (secret, name = "SECRET") => `secret = ${secret ? JSON.stringify(secret) : `os.environ["${name}"]`}\n`;

const CODE = {
  none: {
    curl: (source) => curl(source, []),
    node: (source) => node(source, {}),
    python: (source) => python(source, {}),
  },
  api_key: {
    curl: (source, secret) => curl(source, [secret ? quoted(`X-API-Key: ${secret}`) : '"X-API-Key: $API_KEY"']),
    node: (source, secret) => node(source, { list: ', "X-API-Key": secret' }, js(secret, "API_KEY")),
    python: (source, secret) => python(source, { list: ', "X-API-Key": secret' }, `${secret ? "" : "import os\n"}${py(secret, "API_KEY")}`),
  },
  hmac: {
    curl: (source, secret) => curl(source, ['"X-Webhook-Timestamp: $TIMESTAMP"', `"X-Webhook-Signature: ${algorithm(source)}=$SIGNATURE"`], `${shell(secret)}BODY=${quoted(sample(source))}
TIMESTAMP=$(date +%s)000
SIGNATURE=$(printf '%s.%s' "$TIMESTAMP" "$BODY" | openssl dgst -${algorithm(source)} -hmac "$SECRET" | sed 's/^.* //')
`),
    node: (source, secret) => node(source, {
      sign: `const timestamp = Date.now().toString();
const signature = createHmac("${algorithm(source)}", secret).update(\`\${timestamp}.\${body}\`).digest("hex");
`,
      list: `, "X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": \`${algorithm(source)}=\${signature}\``,
    }, `import { createHmac } from "node:crypto";\n${js(secret)}`),
    python: (source, secret) => python(source, {
      sign: `timestamp = str(int(time.time() * 1000))
signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, "${algorithm(source)}").hexdigest()
`,
      list: `, "X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": "${algorithm(source)}=" + signature`,
    }, `import hmac, time${secret ? "" : ", os"}\n${py(secret)}`),
  },
  jwt: {
    curl: (source) => curl(source, ['"Authorization: Bearer $JWT"']),
    node: (source) => node(source, { list: ", Authorization: `Bearer ${process.env.JWT}`" }),
    python: (source) => python(source, { list: ', "Authorization": "Bearer " + os.environ["JWT"]' }, "import os"),
  },
  standard: {
    curl: (source, secret) => curl(source, ['"webhook-id: $ID"', '"webhook-timestamp: $TIMESTAMP"', '"webhook-signature: v1,$SIGNATURE"'], `${shell(secret)}BODY=${quoted(sample(source))}
ID=msg_$(date +%s%N)
TIMESTAMP=$(date +%s)
KEY=$(printf '%s' "\${SECRET#whsec_}" | base64 -d | od -An -tx1 | tr -d ' \\n')
SIGNATURE=$(printf '%s.%s.%s' "$ID" "$TIMESTAMP" "$BODY" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | base64)
`),
    node: (source, secret) => node(source, {
      sign: `const id = \`msg_\${randomUUID()}\`;
const timestamp = Math.floor(Date.now() / 1000).toString();
const key = Buffer.from(secret.replace("whsec_", ""), "base64");
const signature = createHmac("sha256", key).update(\`\${id}.\${timestamp}.\${body}\`).digest("base64");
`,
      list: ', "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}`',
    }, `import { createHmac, randomUUID } from "node:crypto";\n${js(secret)}`),
    python: (source, secret) => python(source, {
      sign: `id, timestamp = "msg_" + str(uuid.uuid4()), str(int(time.time()))
key = base64.b64decode(secret.removeprefix("whsec_"))
signed = f"{id}.{timestamp}.".encode() + body
signature = base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
`,
      list: ', "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": "v1," + signature',
    }, `import base64, hmac, time, uuid${secret ? "" : ", os"}\n${py(secret)}`),
  },
};

const algorithm = (source) => source.hmacAlgorithm ?? "sha256";
