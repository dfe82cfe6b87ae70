"""pyzmq's asyncio sockets: one workload, as the arguments say; prints what was measured as JSON."""

import asyncio
import json
import resource
import sys
import time

import zmq
import zmq.asyncio

job = json.loads(sys.argv[1])
warm_up, messages, endpoint = job["warm_up"], job["messages"], job["endpoint"]
frames = [bytes(size) for size in job["frames"]]


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    loop = time.thread_time()
    return loop, usage.ru_utime + usage.ru_stime


class Clock:
    def __init__(self):
        self.loop, self.all = cpu()
        self.begin = time.perf_counter()

    def stop(self, count):
        seconds = time.perf_counter() - self.begin
        loop, everything = cpu()
        return {
            "messages": count,
            "seconds": seconds,
            "allocations": None,
            "cpu_loop": loop - self.loop,
            "cpu_all": everything - self.all,
            "percentiles": None,
        }


def percentiles(nanoseconds):
    nanoseconds.sort()
    return {
        "median": float(nanoseconds[len(nanoseconds) * 50 // 100]),
        "p99": float(nanoseconds[len(nanoseconds) * 99 // 100]),
    }


def connect(context, kind):
    socket = context.socket(kind)
    socket.connect(endpoint)
    return socket


async def receive(context):
    pull = connect(context, zmq.PULL)
    one = pull.recv if len(frames) == 1 else pull.recv_multipart
    for _ in range(warm_up):
        await one()
    clock = Clock()
    for _ in range(messages):
        await one()
    return clock.stop(messages)


async def send(context):
    push = connect(context, zmq.PUSH)
    one, message = (push.send, frames[0]) if len(frames) == 1 else (push.send_multipart, frames)
    for _ in range(warm_up):
        await one(message)
    # Go on when the peer has them. The time is taken at the other end of this pipe.
    sys.stdin.readline()
    clock = Clock()
    for _ in range(messages):
        await one(message)
    return clock.stop(messages)


async def round_trip(context, kind):
    socket = connect(context, kind)
    for _ in range(warm_up):
        await socket.send(frames[0])
        await socket.recv()
    trips = []
    clock = Clock()
    for _ in range(messages):
        begin = time.perf_counter_ns()
        await socket.send(frames[0])
        await socket.recv()
        trips.append(time.perf_counter_ns() - begin)
    return clock.stop(messages) | {"percentiles": percentiles(trips)}


async def duplex(context):
    dealer = connect(context, zmq.DEALER)

    async def write():
        for _ in range(warm_up + messages):
            await dealer.send(frames[0])

    writer = asyncio.create_task(write())
    for _ in range(warm_up):
        await dealer.recv()
    clock = Clock()
    for _ in range(messages):
        await dealer.recv()
    measured = clock.stop(messages)
    await writer
    return measured


async def timer(context):
    period, patience = 0.001, 2.0
    pull = connect(context, zmq.PULL)
    late = []
    for _ in range(warm_up):
        await pull.recv()
    loop = asyncio.get_running_loop()

    def tick(due):
        late.append(int((loop.time() - due) * 1e9))
        arm()

    def arm():
        due = loop.time() + period
        loop.call_at(due, tick, due)

    arm()
    begin = loop.time()
    while len(late) < messages and loop.time() - begin < patience:
        await pull.recv()
    elapsed = loop.time() - begin
    late = late or [int(elapsed * 1e9)]
    return Clock().stop(len(late)) | {"seconds": elapsed, "percentiles": percentiles(late)}


async def main():
    context = zmq.asyncio.Context()
    run = {
        "receive": receive,
        "send": send,
        "request": lambda context: round_trip(context, zmq.REQ),
        "round_trip": lambda context: round_trip(context, zmq.DEALER),
        "duplex": duplex,
        "timer": timer,
    }[job["course"]]
    measured = await run(context)
    print(json.dumps(measured), flush=True)
    # What is still to be sent keeps the process until it is sent.
    context.destroy(linger=-1)


asyncio.run(main())
