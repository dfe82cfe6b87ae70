"""The pyzmq end of interop.rs, started by it: peer.py SEED. peer.mjs is the same for zeromq.js.

One line on stdin describes a cell: two sockets, who binds, and how many messages go each way. Both ends derive the same
messages from the seed, and each checks what it receives against what it derived, frame by frame and byte by byte. What
was received and sent is also summed up (messages, frames, bytes, CRC-32) and reported on stdout, so that the Rust end
can tell a check from a check that never ran. Whatever is wrong goes to stderr with a non-zero exit.

Every wait has a deadline; the whole process has one too, should its parent die without a word.
"""

import os
import select
import signal
import struct
import sys
import threading
import time
import zlib

import zmq

DEADLINE = 25.0
"""Seconds that any single wait may take: less than at the Rust end, so that this end can still say what it waited for."""

LIFETIME = 280
"""Seconds after which the process is killed by its own alarm."""

MASK = (1 << 64) - 1
MIB = 1 << 20
SPREAD = 1 << 16

TOPIC = b"A"
DECOY = [b"B", b"nobody subscribed to this"]
DECOY_EVERY = 16
END = [b"end"]
HELLO = [b"hello"]

EDGES = [29, 30, 31, 32, 33, 34, 255, 256, 8191, 8192, 8193, 65535, 65536, 65537]


class Random:
    """SplitMix64, as in the Rust end."""

    def __init__(self, seed, stream):
        self.state = (seed + stream * 0xD1B54A32D192ED03) & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)


def make_noise(seed):
    """What all frames are cut from. No byte is 0 or 1: those would make a frame sent upstream a subscription."""
    random = Random(seed, 0)
    count = (MIB + SPREAD) // 8
    return struct.pack(f"<{count}Q", *(random.next() | 0x0202020202020202 for _ in range(count)))


def plan(noise, seed, stream, count, most):
    """Yields the messages of one direction of one cell, as lists of frames. One has as many as are allowed."""
    random = Random(seed, stream)
    for index in range(count):
        bits = random.next()
        sort, size = bits % 100, bits >> 8
        if index == 0:
            yield [b""]
            continue
        if index == count // 2:
            offset = size % SPREAD
            yield [noise[offset : offset + MIB]]
            continue
        if index == 1:
            frames = most
        elif sort < 60:
            frames = 1
        elif sort < 85:
            frames = 2 + size % 4
        elif sort < 97:
            frames = 6 + size % 15
        else:
            frames = 21 + size % 30
        message = []
        for _ in range(frames):
            bits = random.next()
            sort, size, offset = bits % 1000, (bits >> 16) & 0xFFFFFF, (bits >> 40) % SPREAD
            if sort < 80:
                length = 0
            elif sort < 790:
                length = 1 + size % 64
            elif sort < 980:
                length = 65 + size % 448
            elif sort < 990:
                length = 513 + size % 7680
            elif sort < 999:
                length = EDGES[size % len(EDGES)]
            else:
                length = 8194 + size % 57344
            message.append(noise[offset : offset + length])
        yield message


class Tally:
    def __init__(self):
        self.messages = self.frames = self.bytes = self.crc = 0

    def count(self, frames):
        lengths = [len(frame) for frame in frames]
        crc = zlib.crc32(struct.pack(f"<{len(lengths) + 1}I", len(lengths), *lengths), self.crc)
        for frame in frames:
            crc = zlib.crc32(frame, crc)
        self.crc = crc
        self.messages += 1
        self.frames += len(lengths)
        self.bytes += sum(lengths)

    def __str__(self):
        return f"{self.messages} {self.frames} {self.bytes} {self.crc:08x}"


class Control:
    """Lines from and to the Rust end. Reads the descriptor itself: select must see all that is there."""

    def __init__(self):
        self.buffer = b""

    def read(self, seconds=DEADLINE):
        """The next line; None if there is none in time, "" at the end."""
        while b"\n" not in self.buffer:
            if not select.select([0], [], [], seconds)[0]:
                return None
            chunk = os.read(0, 65536)
            if not chunk:
                return ""
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def expect(self, wanted):
        line = self.read()
        if line != wanted:
            raise RuntimeError(f"wanted {wanted!r} from the Rust end, got {line!r}")

    def say(self, line):
        os.write(1, line.encode() + b"\n")


class Cell:
    def __init__(self, control, context, noise, seed, line):
        number, kind, other, action, mechanism, endpoint, hwm, most, outgoing, incoming, *keys = line.split()
        number, hwm, most = int(number), int(hwm), int(most)
        self.control, self.kind, self.other, self.number = control, kind, other, number
        # The Rust end's sends are the even streams.
        self.incoming = plan(noise, seed, 2 * number, int(incoming), most) if int(incoming) else None
        self.outgoing = plan(noise, seed, 2 * number + 1, int(outgoing), most) if int(outgoing) else None
        self.received, self.sent = Tally(), Tally()
        self.envelope = [TOPIC] if kind in ("PUB", "SUB", "XPUB", "XSUB") else []

        self.socket = socket = context.socket(getattr(zmq, kind))
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = int(DEADLINE * 1000)
        socket.sndhwm = socket.rcvhwm = hwm
        if kind == "ROUTER":
            socket.router_mandatory = 1
        if kind in ("DEALER", "ROUTER"):
            socket.routing_id = f"peer-{number}".encode()
        if kind == "SUB":
            socket.subscribe(TOPIC)
        if mechanism == "plain" and action == "bind":
            socket.plain_server = 1
        elif mechanism == "plain":
            socket.plain_username, socket.plain_password = b"peer", b"secret"
        elif mechanism == "curve" and action == "bind":
            socket.curve_server, socket.curve_secretkey = 1, keys[1].encode()
        elif mechanism == "curve":
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = (keys[n].encode() for n in (0, 2, 3))
        if action == "bind":
            socket.bind(endpoint)
            control.say("endpoint " + socket.last_endpoint.rstrip(b"\0").decode())
        else:
            socket.connect(endpoint)
            control.say("endpoint connected")

    def run(self):
        if self.kind == "REQ" or self.other == "REP":
            # What a REQ puts in front by itself.
            envelope = [b""] if self.kind == "DEALER" else []
            for message in self.outgoing:
                self.send_now(envelope, message)
                self.check(next(self.incoming), self.open(envelope, self.socket.recv_multipart()))
        elif self.kind == "REP" or self.other == "REQ":
            for message in self.incoming:
                received = self.socket.recv_multipart()
                envelope = received[:2] if self.kind == "ROUTER" else []
                self.check(message, received[len(envelope) :])
                self.send_now(envelope, next(self.outgoing))
        else:
            self.meet()
            self.exchange()
        self.control.say(f"received {self.received}")
        self.control.expect("close")
        self.socket.close()
        self.control.say(f"sent {self.sent}")

    def open(self, envelope, frames):
        if frames[: len(envelope)] != envelope:
            raise RuntimeError(f"after {self.received}: the envelope is {frames[0]!r}")
        return frames[len(envelope) :]

    def send_now(self, envelope, message):
        self.socket.send_multipart(envelope + message)
        self.sent.count(message)

    def meet(self):
        """What must happen before the first message, so that none of them is lost."""
        socket, control = self.socket, self.control
        kinds = (self.kind, self.other)
        if kinds == ("DEALER", "ROUTER"):
            socket.send_multipart(HELLO)
        elif kinds == ("ROUTER", "ROUTER"):
            self.envelope = [f"rust-{self.number}".encode()]
            self.insist(lambda: socket.send_multipart(self.envelope + HELLO))
            if socket.recv_multipart() != self.envelope + HELLO:
                raise RuntimeError("no greeting")
        elif self.kind == "ROUTER":
            self.envelope = [f"rust-{self.number}".encode()]
            if socket.recv_multipart() != self.envelope + HELLO:
                raise RuntimeError("no greeting")
        elif self.kind == "PUB":
            self.ask("subscribed", lambda: socket.send(TOPIC))
        elif self.kind == "XPUB":
            if socket.recv_multipart() != [b"\x01" + TOPIC]:
                raise RuntimeError("no subscription")
            control.say("subscribed")
        elif self.kind in ("SUB", "XSUB"):
            if self.kind == "XSUB":
                socket.send(b"\x01" + TOPIC)
            if self.other == "PUB":
                if socket.recv_multipart() != [TOPIC]:
                    raise RuntimeError("not a probe")
                control.say("subscribed")
            else:
                # The subscription goes out when libzmq sees the connection, and it looks only when called.
                self.ask("subscribed", lambda: socket.poll(0))

    def ask(self, wanted, meanwhile):
        """Waits for a line from the Rust end, and does something all the while."""
        give_up = time.monotonic() + DEADLINE
        line = None
        while line is None:
            if time.monotonic() > give_up:
                raise RuntimeError(f"no {wanted!r} from the Rust end")
            meanwhile()
            line = self.control.read(0.01)
        if line != wanted:
            raise RuntimeError(f"wanted {wanted!r} from the Rust end, got {line!r}")

    def insist(self, send):
        """Sends to a peer that may not be there yet."""
        give_up = time.monotonic() + DEADLINE
        while True:
            try:
                return send()
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH or time.monotonic() > give_up:
                    raise
            time.sleep(0.005)

    def exchange(self):
        """Sends and receives at once, so that neither direction waits for the other to be over."""
        socket = self.socket
        # A subscriber sends upstream without a topic.
        envelope_out = [] if self.kind == "XSUB" else self.envelope
        envelope_in = [] if self.kind == "XPUB" else self.envelope
        sending, receiving = self.outgoing is not None, self.incoming is not None
        probes = self.other == "PUB"
        queue = []
        last_progress = time.monotonic()
        while sending or receiving:
            progress = False
            try:
                for _ in range(32 if sending else 0):
                    if not queue:
                        self.refill(queue, envelope_out)
                    socket.send_multipart(queue[0], zmq.DONTWAIT)
                    queue.pop(0)
                    progress = True
                    if not queue and self.outgoing is None:
                        sending = False
                        break
            except zmq.Again:
                pass
            try:
                for _ in range(32 if receiving else 0):
                    frames = socket.recv_multipart(zmq.DONTWAIT)
                    progress = True
                    if probes and frames == [TOPIC]:
                        continue
                    probes = False
                    receiving = self.take(frames, envelope_in)
                    if not receiving:
                        break
            except zmq.Again:
                pass
            if progress:
                last_progress = time.monotonic()
                continue
            if time.monotonic() - last_progress > DEADLINE:
                raise RuntimeError(f"no progress: sent {self.sent}, received {self.received}")
            # A ROUTER says POLLOUT also while its only peer is full.
            says_when = sending and self.kind != "ROUTER"
            socket.poll(1000 if says_when or not sending else 1, zmq.POLLIN | (zmq.POLLOUT if says_when else 0))

    def refill(self, queue, envelope):
        """Appends the next message, and now and then one that nobody subscribed to; at the end the last one."""
        message = next(self.outgoing, None)
        if message is None:
            self.outgoing = None
            queue.append(envelope + END)
            return
        self.sent.count(message)
        queue.append(envelope + message)
        if self.kind in ("PUB", "XPUB") and self.sent.messages % DECOY_EVERY == 0:
            queue.append(DECOY)

    def take(self, frames, envelope):
        """Checks a message; False if it was the last one, and rightly so."""
        frames = self.open(envelope, frames)
        expected = next(self.incoming, None)
        if expected is None:
            if frames != END:
                raise RuntimeError(f"after {self.received}: one message too many, of {len(frames)} frames")
            return False
        self.check(expected, frames)
        return True

    def check(self, expected, frames):
        if frames != expected:
            wanted, got = [len(frame) for frame in expected], [len(frame) for frame in frames]
            raise RuntimeError(f"after {self.received}: wanted frames of {wanted} bytes, got {got} (or other bytes)")
        self.received.count(frames)


def authenticate(handler):
    """Lets in who has the password, or any key. Names nobody: a REQ that is a server would trip over that."""
    try:
        while True:
            version, request, _, _, _, mechanism, *credentials = handler.recv_multipart()
            allowed = mechanism == b"CURVE" or credentials == [b"rust", b"secret"]
            handler.send_multipart([version, request, b"200" if allowed else b"400", b"", b"", b""])
    except zmq.ContextTerminated:
        handler.close(0)


def main():
    signal.alarm(LIFETIME)
    seed = int(sys.argv[1])
    noise = make_noise(seed)
    control = Control()
    context = zmq.Context()
    handler = context.socket(zmq.REP)
    handler.bind("inproc://zeromq.zap.01")
    threading.Thread(target=authenticate, args=[handler]).start()
    while line := control.read():
        try:
            Cell(control, context, noise, seed, line).run()
        except Exception as error:
            print(f"in cell [{line}]: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            control.say("failed")
            os._exit(1)
    context.term()
    control.say("bye")


main()
