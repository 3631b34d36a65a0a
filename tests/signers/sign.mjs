// Signs random texts with the npm package standardwebhooks; one JSON object a line.
import { createRequire } from 'node:module';
const { Webhook } = createRequire(process.cwd() + '/')('standardwebhooks');

// A small generator with a seed (mulberry32), so that the file can be made again.
let state = 20261121;
function random(below) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % below;
}

// The package signs texts: any character but a half of a surrogate pair.
function character() {
  const kind = random(8);
  if (kind < 4) return String.fromCodePoint(random(0x80));
  if (kind < 6) return String.fromCodePoint(random(0x800));
  if (kind < 7) return String.fromCodePoint(random(0xd800));
  return String.fromCodePoint(0x10000 + random(0x100000));
}

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-';
for (let n = 0; n < 200; n++) {
  const key = Buffer.from(Array.from({ length: 24 + random(41) }, () => random(256)));
  const id = Array.from({ length: 1 + random(40) }, () => letters[random(64)]).join('');
  const timestamp = 1600000000 + random(400000000);
  const body = Array.from({ length: random(40) }, character).join('');
  const secret = 'whsec_' + key.toString('base64');
  const signature = new Webhook(secret).sign(id, new Date(timestamp * 1000), body);
  const encoded = Buffer.from(body).toString('base64');
  console.log(JSON.stringify({ signer: 'npm', secret, id, timestamp, body: encoded, signature }));
}
