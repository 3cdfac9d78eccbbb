// One event as Avro in single-object encoding, on stdout: npm install avsc, then
//
//   node event.mjs funnel_event.avsc '{"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}'

import { readFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import avro from "avsc";

const type = avro.Type.forSchema(JSON.parse(readFileSync(process.argv[2], "utf8")), { wrapUnions: false });
const event = { event_id: randomUUID(), ts: Date.now(), ...JSON.parse(process.argv[3]) };

// CRC-64-AVRO of the schema's canonical form: https://avro.apache.org/docs/1.12.0/specification/#schema-fingerprints
const EMPTY = 0xc15d213aa4d7a795n;
let fingerprint = EMPTY;
for (const byte of Buffer.from(JSON.stringify(type.schema()))) {
  let row = (fingerprint ^ BigInt(byte)) & 0xffn;
  for (let bit = 0; bit < 8; bit++) row = (row >> 1n) ^ (EMPTY & -(row & 1n));
  fingerprint = (fingerprint >> 8n) ^ row;
}
const header = Buffer.alloc(10);
header.writeUInt16BE(0xc301);
header.writeBigUInt64LE(BigInt.asUintN(64, fingerprint), 2);
process.stdout.write(Buffer.concat([header, type.toBuffer(event)]));
