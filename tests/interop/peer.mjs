// The zeromq.js end of interop.rs, started by it: peer.mjs SEED. peer.py is the same for pyzmq, and says what a cell is.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { writeSync } from "node:fs";
import { crc32 } from "node:zlib";
import { setTimeout as sleep } from "node:timers/promises";

// NODE_PATH, which the Rust end sets, counts for require only.
const zmq = createRequire(import.meta.url)("zeromq");

const DEADLINE = 25_000;
const LIFETIME = 280_000;

const MASK = (1n << 64n) - 1n;
const MIB = 1 << 20;
const SPREAD = 1 << 16;

const TOPIC = Buffer.from("A");
const DECOY = [Buffer.from("B"), Buffer.from("nobody subscribed to this")];
const DECOY_EVERY = 16;
const END = [Buffer.from("end")];
const HELLO = [Buffer.from("hello")];
const SUBSCRIPTION = Buffer.from("\x01A");

const EDGES = [29, 30, 31, 32, 33, 34, 255, 256, 8191, 8192, 8193, 65535, 65536, 65537];

const KINDS = {
  PUSH: zmq.Push, PULL: zmq.Pull, PUB: zmq.Publisher, SUB: zmq.Subscriber, XPUB: zmq.XPublisher, XSUB: zmq.XSubscriber,
  REQ: zmq.Request, REP: zmq.Reply, DEALER: zmq.Dealer, ROUTER: zmq.Router, PAIR: zmq.Pair,
};

/** SplitMix64, as in the Rust end. */
function makeRandom(seed, stream) {
  let state = (seed + stream * 0xd1b54a32d192ed03n) & MASK;
  return () => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return z ^ (z >> 31n);
  };
}

/** What all frames are cut from. No byte is 0 or 1: those would make a frame sent upstream a subscription. */
function makeNoise(seed) {
  const next = makeRandom(seed, 0n);
  const noise = Buffer.alloc(MIB + SPREAD);
  for (let at = 0; at < noise.length; at += 8) noise.writeBigUInt64LE(next() | 0x0202020202020202n, at);
  return noise;
}

/** Yields the messages of one direction of one cell, as lists of frames. One has as many as are allowed. */
function* plan(noise, seed, stream, count, most) {
  const next = makeRandom(seed, stream);
  for (let index = 0; index < count; index++) {
    const bits = next();
    const sort = Number(bits % 100n);
    const size = bits >> 8n;
    let frames;
    if (index === 0) {
      yield [Buffer.alloc(0)];
      continue;
    } else if (index === Math.floor(count / 2)) {
      const offset = Number(size % BigInt(SPREAD));
      yield [noise.subarray(offset, offset + MIB)];
      continue;
    } else if (index === 1) frames = most;
    else if (sort < 60) frames = 1;
    else if (sort < 85) frames = 2 + Number(size % 4n);
    else if (sort < 97) frames = 6 + Number(size % 15n);
    else frames = 21 + Number(size % 30n);
    const message = [];
    for (let frame = 0; frame < frames; frame++) {
      const bits = next();
      const sort = Number(bits % 1000n);
      const size = Number((bits >> 16n) & 0xffffffn);
      const offset = Number((bits >> 40n) % BigInt(SPREAD));
      let length;
      if (sort < 80) length = 0;
      else if (sort < 790) length = 1 + (size % 64);
      else if (sort < 980) length = 65 + (size % 448);
      else if (sort < 990) length = 513 + (size % 7680);
      else if (sort < 999) length = EDGES[size % EDGES.length];
      else length = 8194 + (size % 57344);
      message.push(noise.subarray(offset, offset + length));
    }
    yield message;
  }
}

class Tally {
  messages = 0;
  frames = 0;
  bytes = 0;
  crc = 0;

  count(frames) {
    const lengths = Buffer.alloc(4 * (frames.length + 1));
    lengths.writeUInt32LE(frames.length, 0);
    frames.forEach((frame, at) => lengths.writeUInt32LE(frame.length, 4 * (at + 1)));
    this.crc = crc32(lengths, this.crc);
    for (const frame of frames) {
      // Of nothing, it answers 0.
      if (frame.length > 0) this.crc = crc32(frame, this.crc);
      this.bytes += frame.length;
    }
    this.messages += 1;
    this.frames += frames.length;
  }

  toString() {
    return `${this.messages} ${this.frames} ${this.bytes} ${this.crc.toString(16).padStart(8, "0")}`;
  }
}

/** Lines from and to the Rust end. */
class Control {
  lines = [];
  waiting = null;

  constructor() {
    const put = (line) => {
      this.lines.push(line);
      this.waiting?.();
    };
    createInterface({ input: process.stdin }).on("line", put).on("close", () => put(""));
  }

  /** The next line; undefined if there is none in time, "" at the end. */
  async read(milliseconds = DEADLINE) {
    if (this.lines.length === 0) {
      let timer;
      await new Promise((resolve) => {
        this.waiting = resolve;
        timer = setTimeout(resolve, milliseconds);
      });
      clearTimeout(timer);
      this.waiting = null;
    }
    return this.lines.shift();
  }

  async expect(wanted) {
    const line = await this.read();
    if (line !== wanted) throw new Error(`wanted "${wanted}" from the Rust end, got "${line}"`);
  }

  say(line) {
    writeSync(1, line + "\n");
  }
}

class Cell {
  received = new Tally();
  sent = new Tally();

  constructor(control, noise, seed, line) {
    const [number, kind, other, action, mechanism, endpoint, hwm, most, outgoing, incoming, ...keys] = line.split(" ");
    Object.assign(this, { control, number, kind, other, action, mechanism, endpoint, keys });
    this.hwm = Number(hwm);
    // The Rust end's sends are the even streams.
    const stream = 2n * BigInt(number);
    this.sends = Number(outgoing) > 0;
    this.receives = Number(incoming) > 0;
    this.incoming = plan(noise, seed, stream, Number(incoming), Number(most));
    this.outgoing = plan(noise, seed, stream + 1n, Number(outgoing), Number(most));
    this.envelope = ["PUB", "SUB", "XPUB", "XSUB"].includes(kind) ? [TOPIC] : [];
  }

  async open() {
    const { kind, number, action, mechanism, keys } = this;
    const options = { linger: 0 };
    if (!["PULL", "SUB"].includes(kind)) Object.assign(options, { sendHighWaterMark: this.hwm, sendTimeout: DEADLINE });
    if (!["PUSH", "PUB"].includes(kind)) Object.assign(options, { receiveHighWaterMark: this.hwm, receiveTimeout: DEADLINE });
    if (kind === "ROUTER") options.mandatory = true;
    if (kind === "ROUTER" || kind === "DEALER") options.routingId = `peer-${number}`;
    if (mechanism === "plain" && action === "bind") options.plainServer = true;
    else if (mechanism === "plain") Object.assign(options, { plainUsername: "peer", plainPassword: "secret" });
    else if (mechanism === "curve" && action === "bind") Object.assign(options, { curveServer: true, curveSecretKey: keys[1] });
    else if (mechanism === "curve") {
      Object.assign(options, { curveServerKey: keys[0], curvePublicKey: keys[2], curveSecretKey: keys[3] });
    }
    this.socket = new KINDS[kind](options);
    if (kind === "SUB") this.socket.subscribe(TOPIC);
    if (action === "bind") {
      await this.socket.bind(this.endpoint);
      this.control.say("endpoint " + this.socket.lastEndpoint);
    } else {
      this.socket.connect(this.endpoint);
      this.control.say("endpoint connected");
    }
  }

  async run() {
    await this.open();
    if (this.kind === "REQ" || this.other === "REP") {
      // What a REQ puts in front by itself.
      const envelope = this.kind === "DEALER" ? [Buffer.alloc(0)] : [];
      for (const message of this.outgoing) {
        await this.sendNow(envelope, message);
        this.check(this.incoming.next().value, this.openEnvelope(envelope, await this.socket.receive()));
      }
    } else if (this.kind === "REP" || this.other === "REQ") {
      for (const message of this.incoming) {
        const received = await this.socket.receive();
        const envelope = this.kind === "ROUTER" ? received.slice(0, 2) : [];
        this.check(message, received.slice(envelope.length));
        await this.sendNow(envelope, this.outgoing.next().value);
      }
    } else {
      await this.meet();
      await Promise.all([this.sends && this.sendAll(), this.receives && this.receiveAll()]);
    }
    this.control.say(`received ${this.received}`);
    await this.control.expect("close");
    this.socket.close();
    this.control.say(`sent ${this.sent}`);
  }

  async sendNow(envelope, message) {
    await this.socket.send([...envelope, ...message]);
    this.sent.count(message);
  }

  /** What must happen before the first message, so that none of them is lost. */
  async meet() {
    const { socket, control, kind, other } = this;
    if (kind === "DEALER" && other === "ROUTER") {
      await socket.send(HELLO);
    } else if (kind === "ROUTER") {
      this.envelope = [Buffer.from(`rust-${this.number}`)];
      if (other === "ROUTER") await this.insist([...this.envelope, ...HELLO]);
      if (!equal(await socket.receive(), [...this.envelope, ...HELLO])) throw new Error("no greeting");
    } else if (kind === "PUB") {
      await this.ask("subscribed", () => socket.send(TOPIC));
    } else if (kind === "XPUB") {
      if (!equal(await socket.receive(), [SUBSCRIPTION])) throw new Error("no subscription");
      control.say("subscribed");
    } else if (kind === "SUB" || kind === "XSUB") {
      if (kind === "XSUB") await socket.send(SUBSCRIPTION);
      if (other === "PUB") {
        if (!equal(await socket.receive(), [TOPIC])) throw new Error("not a probe");
        control.say("subscribed");
      } else {
        // The subscription goes out when libzmq sees the connection, and it looks only when called.
        await this.ask("subscribed", () => socket.readable);
      }
    }
  }

  /** Waits for a line from the Rust end, and does something all the while. */
  async ask(wanted, meanwhile) {
    const giveUp = Date.now() + DEADLINE;
    let line;
    while (line === undefined) {
      if (Date.now() > giveUp) throw new Error(`no "${wanted}" from the Rust end`);
      await meanwhile();
      line = await this.control.read(10);
    }
    if (line !== wanted) throw new Error(`wanted "${wanted}" from the Rust end, got "${line}"`);
  }

  /** Sends to a peer that may not be there yet. */
  async insist(message) {
    for (const giveUp = Date.now() + DEADLINE; ; await sleep(5)) {
      try {
        return await this.socket.send(message);
      } catch (error) {
        if (error.code !== "EHOSTUNREACH" || Date.now() > giveUp) throw error;
      }
    }
  }

  async sendAll() {
    // A subscriber sends upstream without a topic.
    const envelope = this.kind === "XSUB" ? [] : this.envelope;
    for (const message of this.outgoing) {
      await this.sendNow(envelope, message);
      const decoy = this.kind.endsWith("PUB") && this.sent.messages % DECOY_EVERY === 0;
      if (decoy) await this.socket.send(DECOY);
    }
    await this.socket.send([...envelope, ...END]);
  }

  async receiveAll() {
    const envelope = this.kind === "XPUB" ? [] : this.envelope;
    let probes = this.other === "PUB";
    for (;;) {
      let frames = await this.socket.receive();
      if (probes && equal(frames, [TOPIC])) continue;
      probes = false;
      frames = this.openEnvelope(envelope, frames);
      const { value: expected, done } = this.incoming.next();
      if (done) {
        if (!equal(frames, END)) throw new Error(`after ${this.received}: one message too many, of ${frames.length} frames`);
        return;
      }
      this.check(expected, frames);
    }
  }

  openEnvelope(envelope, frames) {
    if (!equal(frames.slice(0, envelope.length), envelope)) throw new Error(`after ${this.received}: the envelope is ${frames[0]}`);
    return frames.slice(envelope.length);
  }

  check(expected, frames) {
    if (!equal(frames, expected)) {
      const lengths = (message) => message.map((frame) => frame.length);
      throw new Error(`after ${this.received}: wanted ${lengths(expected)} bytes, got ${lengths(frames)} (or other bytes)`);
    }
    this.received.count(frames);
  }
}

/** Lets in who has the password, or any key. */
async function authenticate() {
  const handler = new zmq.Reply({ linger: 0 });
  await handler.bind("inproc://zeromq.zap.01");
  for await (const [version, request, , , , mechanism, ...credentials] of handler) {
    const allowed = `${mechanism}` === "CURVE" || credentials.join(" ") === "rust secret";
    await handler.send([version, request, allowed ? "200" : "400", "", "", ""]);
  }
}

function equal(left, right) {
  return left.length === right.length && left.every((frame, at) => frame.equals(right[at]));
}

setTimeout(() => process.exit(14), LIFETIME).unref();
const seed = BigInt(process.argv[2]);
const noise = makeNoise(seed);
const control = new Control();
authenticate();
for (let line; (line = await control.read()); ) {
  try {
    await new Cell(control, noise, seed, line).run();
  } catch (error) {
    writeSync(2, `in cell [${line}]: ${error.stack}\n`);
    control.say("failed");
    process.exit(1);
  }
}
control.say("bye");
process.exit(0);
