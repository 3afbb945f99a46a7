//! Python: processes, threads, event loops.

use endo_testing::{Guest, Outcome};

fn python(program: &str) -> Outcome {
    let guest = Guest::new("/usr/bin/python3.11").arguments(["-I", "-B", "program.py"]);
    guest.file("program.py", program).limit_seconds(60).same_and_succeeds()
}

#[test]
fn subprocess_and_os_start_processes_and_say_how_they_ended() {
    let outcome = python(
        r"
import os, resource, signal, subprocess
print(subprocess.run(['tr', 'a-z', 'A-Z'], input=b'abc', capture_output=True).stdout)
try:
    subprocess.run(['/nonexistent'])
except FileNotFoundError as error:
    print(error)
process = subprocess.Popen(['sleep', '100'], start_new_session=True)
process.terminate()
print(process.wait(), os.waitstatus_to_exitcode(os.system('exit 5')))
try:
    subprocess.run(['sleep', '10'], timeout=0.1)
except subprocess.TimeoutExpired as error:
    print(error.cmd, error.output)
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.write(write, b'child')
    os._exit(7)
print(os.read(read, 10), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.signal(signal.SIGALRM, lambda number, frame: print('signal', number))
signal.setitimer(signal.ITIMER_REAL, 0.05)
signal.pause()
os.posix_spawn('/bin/sh', ['sh', '-c', 'echo $A; exit 9'], {'A': 'spawned'})
print(os.waitstatus_to_exitcode(os.wait()[1]))
program = os.memfd_create('program')
os.write(program, open('/bin/echo', 'rb').read())
child = os.fork()
if child == 0:
    os.execve(program, ['echo', 'from memory'], {})
os.waitpid(child, 0)
",
    );
    assert!(outcome.text().contains("from memory\n"), "{}", outcome.text());
}

#[test]
fn a_child_on_a_pseudo_terminal_is_talked_to_and_interrupted() {
    let outcome = python(
        r#"
import os, pty
child, terminal = pty.fork()
if child == 0:
    script = 'stty -echo; read x; echo got $x; trap "echo interrupted; exit 3" INT; echo ready; while :; do sleep 0.02; done'
    os.execvp('sh', ['sh', '-c', script])
seen = b''
def read_until(text):
    global seen
    try:
        while text not in seen:
            seen += os.read(terminal, 1000)
    except OSError:
        pass
os.write(terminal, b'hello\n')
read_until(b'ready')
os.write(terminal, b'\x03')
read_until(b'the end of it')
print(seen[seen.index(b'got'):], os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#,
    );
    assert!(outcome.text().contains("interrupted"), "{}", outcome.text());
}

#[test]
fn threads_share_queues_locks_and_the_interpreter() {
    let outcome = python(
        r"
import queue, threading, time
from concurrent.futures import ThreadPoolExecutor
tasks, results, lock, total = queue.Queue(), queue.Queue(), threading.Lock(), 0
def work():
    global total
    while (task := tasks.get()) is not None:
        value = sum(i * i for i in range(task))
        with lock:
            total += value
        results.put(value)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for task in range(200): tasks.put(task)
for _ in threads: tasks.put(None)
for thread in threads: thread.join()
print(total, results.qsize(), threading.active_count())
with ThreadPoolExecutor(3) as pool:
    print(list(pool.map(lambda n: pow(3, n, 10007), range(20))))
ready, event, barrier = threading.Condition(), threading.Event(), threading.Barrier(3)
timer = threading.Timer(0.05, event.set)
timer.start()
print(event.wait(5), event.wait(0))
local = threading.local()
def meet(number):
    local.number = number
    barrier.wait(5)
    results.put(local.number)
for number in range(3): threading.Thread(target=meet, args=(number,)).start()
while results.qsize() < 203: time.sleep(0.01)
print(sorted(results.get() for _ in range(203))[:4])
started = [threading.Thread(target=lambda: None) for _ in range(100)]
for thread in started: thread.start()
for thread in started: thread.join()
print('joined', len(started))
",
    );
    assert!(outcome.text().ends_with("joined 100\n"), "{}", outcome.text());
}

#[test]
fn multiprocessing_has_pools_queues_shared_memory_and_managers() {
    let outcome = python(
        r"
import multiprocessing as mp, os, sys
from multiprocessing import shared_memory

def square(n):
    return n * n

def add(value, lock, count):
    for _ in range(count):
        with lock:
            value.value += 1

def answer(connection, queue):
    connection.send(connection.recv()[::-1])
    queue.put(('from', mp.current_process().name))

def fail():
    sys.exit(5)

if __name__ == '__main__':
    with mp.Pool(2) as pool:
        print(pool.map(square, range(30)), pool.apply_async(square, (12,)).get(10))
    value, lock = mp.Value('i', 0), mp.Lock()
    processes = [mp.Process(target=add, args=(value, lock, 200)) for _ in range(3)]
    for process in processes: process.start()
    for process in processes: process.join()
    print(value.value)
    here, there = mp.Pipe()
    queue = mp.Queue()
    process = mp.Process(target=answer, args=(there, queue), name='worker')
    process.start()
    here.send([1, 2, 3])
    print(here.recv(), queue.get(timeout=10))
    process.join()
    process = mp.Process(target=fail)
    process.start()
    process.join()
    print(process.exitcode)
    memory = shared_memory.SharedMemory(create=True, size=100)
    memory.buf[:5] = b'bytes'
    again = shared_memory.SharedMemory(memory.name)
    print(bytes(again.buf[:5]))
    again.close(), memory.close(), memory.unlink()
    with mp.Manager() as manager:
        shared = manager.dict(a=1)
        shared['b'] = 2
        print(dict(shared))
    for method in ['spawn', 'forkserver']:
        with mp.get_context(method).Pool(1) as pool:
            print(method, pool.map(square, [3, 4]))
",
    );
    assert!(outcome.text().ends_with("spawn [9, 16]\nforkserver [9, 16]\n"), "{}", outcome.text());
}

#[test]
fn asyncio_runs_tasks_servers_children_and_executors() {
    let outcome = python(
        r"
import asyncio, os, signal

async def ticker(name, count, log):
    for i in range(count):
        await asyncio.sleep(0.001)
        log.append(name)

async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()

async def main():
    log = []
    async with asyncio.TaskGroup() as group:
        for name in 'abc': group.create_task(ticker(name, 10, log))
    print(sorted(log) == sorted('abc' * 10))
    server = await asyncio.start_unix_server(echo, 'socket')
    reader, writer = await asyncio.open_unix_connection('socket')
    for i in range(20):
        writer.write(b'line %d\n' % i)
        print((await reader.readline()).decode(), end='')
    writer.close()
    server.close()
    os.unlink('socket')
    child = await asyncio.create_subprocess_exec('sh', '-c', 'cat; exit 3', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    print(await child.communicate(b'through a child'), child.returncode)
    loop = asyncio.get_running_loop()
    print(await asyncio.gather(*(loop.run_in_executor(None, pow, 7, n, 1009) for n in range(8))))
    caught = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, caught.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(caught.wait(), 5)
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.02)
    except TimeoutError:
        print('timed out')
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    task.cancel()
    print(await asyncio.gather(task, return_exceptions=True), await asyncio.to_thread(os.getppid) == os.getppid())

asyncio.run(main())
",
    );
    assert!(outcome.text().contains("timed out\n"), "{}", outcome.text());
}
