//! Node.js: V8 with its just-in-time compilers and concurrent collector, libuv's threads, workers, children, WebAssembly.

use endo_testing::{Guest, Status};

fn node(script: &str) -> Guest {
    Guest::new("/usr/bin/node").argument("script.js").file("script.js", script).limit_seconds(90)
}

#[test]
fn node_runs_hot_code_and_collects_garbage() {
    let script = r#"
const fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2); console.log(fib(25));
class Vec { constructor(x, y) { this.x = x; this.y = y } add(o) { return new Vec(this.x + o.x, this.y + o.y) } }
let v = new Vec(0, 0.5); for (let i = 0; i < 300000; i++) v = v.add(new Vec(i % 7, 1 / (i + 1))); console.log(v.x, v.y.toFixed(9));
const sieve = new Uint8Array(200001); let primes = 0; for (let i = 2; i <= 200000; i++) if (!sieve[i]) { primes++; for (let j = i * 2; j <= 200000; j += i) sieve[j] = 1 } console.log(primes);
const map = new Map(); for (let i = 0; i < 50000; i++) map.set('k' + i % 5000, (map.get('k' + i % 5000) || 0) + i); console.log(map.size, map.get('k77'));
const words = 'the quick brown fox '.repeat(2000).split(' ').map(w => [...w].reverse().join('')); console.log(words.length, new Set(words).size);
console.log('a1b22c333'.replace(/([a-z])(\d+)/g, (_, a, d) => d + a.toUpperCase()), /(?<y>\d{4})-(?<m>\d\d)/u.exec('on 2024-02-29').groups.y);
console.log(2n ** 200n % 1000007n, JSON.stringify(JSON.parse('{"a":[1,2.5,null,{"b":true}]}')), [3, 1, 2].sort().concat([..."né"]));
function* g() { const x = yield 1; try { yield x * 2 } finally { console.log('finally') } } const it = g(); console.log(it.next().value, it.next(21).value, it.return('end').value);
try { null.x } catch (e) { console.log(e instanceof TypeError, e.message) } let deep = 0; const down = () => { deep++; down() }; try { down() } catch (e) { console.log(e.name, deep > 1000) }
let kept = []; for (let r = 0; r < 40; r++) { kept = Array.from({ length: 20000 }, (_, i) => ({ i, r, s: 'x' + i })) } console.log(kept[19999].s, eval('1 + 1'), new Function('a', 'return a * 2')(21));
console.log(new Intl.NumberFormat('en-US').format(1234567.891), new Date(Date.UTC(2024, 1, 29)).toISOString(), structuredClone({ d: new Map([[1, 2]]) }).d.get(1));
console.error('to standard error'); process.exitCode = 9;
"#;
    assert_eq!(node(script).same().status, Status::Exited(9));
}

#[test]
fn node_waits_for_timers_files_sockets_and_children() {
    let script = r#"
const fs = require('fs'), net = require('net'), http = require('http'), zlib = require('zlib'), crypto = require('crypto'), { spawn, execFileSync, fork } = require('child_process'), util = require('util');
if (process.argv[2] === 'child') { process.on('message', m => { process.send({ twice: m.n * 2 }); process.disconnect() }); return }
const sleep = util.promisify(setTimeout);
(async () => {
  const order = []; setImmediate(() => order.push('immediate')); process.nextTick(() => order.push('tick')); Promise.resolve().then(() => order.push('promise')); await sleep(5); console.log(order.slice(0, 2).join());
  await Promise.all(Array.from({ length: 20 }, (_, i) => fs.promises.writeFile('f' + i, 'x'.repeat(i * 1000)))); const sizes = await Promise.all(Array.from({ length: 20 }, async (_, i) => (await fs.promises.stat('f' + i)).size)); console.log(sizes.reduce((a, b) => a + b));
  const server = http.createServer((q, r) => { let body = ''; q.on('data', d => body += d).on('end', () => r.end(q.method + q.url + body.length)) }); await new Promise(r => server.listen('s', r));
  const replies = await Promise.all(Array.from({ length: 10 }, (_, i) => new Promise(done => { const q = http.request({ socketPath: 's', path: '/' + i, method: 'POST' }, r => { let t = ''; r.on('data', d => t += d).on('end', () => done(t)) }); q.end('b'.repeat(i * 10000)) }))); console.log(replies.join()); server.close();
  console.log((await util.promisify(zlib.gunzip)(await util.promisify(zlib.gzip)('z'.repeat(1e6)))).length, (await util.promisify(crypto.pbkdf2)('p', 's', 5000, 32, 'sha256')).toString('hex'));
  const cat = spawn('cat', ['-n']); let out = ''; cat.stdout.on('data', d => out += d); cat.stdin.end('a\nb\n'); console.log(await new Promise(r => cat.on('close', c => r(c + out))));
  const killed = spawn('sleep', ['100']); killed.kill('SIGTERM'); console.log(await new Promise(r => killed.on('exit', (c, s) => r(s)))); console.log(execFileSync('sh', ['-c', 'echo sync']).toString());
  await new Promise(r => spawn('/nonexistent/program').on('error', e => { console.log(e.code); r() })); const child = fork(__filename, ['child']); child.send({ n: 21 }); console.log(await new Promise(r => child.on('message', r)));
  process.on('SIGUSR2', () => console.log('signal')); process.kill(process.pid, 'SIGUSR2'); await sleep(20); process.removeAllListeners('SIGUSR2');
})();
"#;
    node(script).same_and_succeeds();
}

/// V8 reserves 512 MiB of addresses for each thread that runs JavaScript: five at a time have room in a window, so the
/// first workers end before there are more.
#[test]
fn node_runs_workers_and_webassembly() {
    let script = r#"
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (!isMainThread) {
  const { shared, lock, n } = workerData; const view = new Int32Array(shared), fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2);
  for (let i = 0; i < 1000; i++) Atomics.add(view, 0, 1); Atomics.wait(view, 1, 0); parentPort.postMessage([n, fib(15 + n)]); return;
}
const shared = new SharedArrayBuffer(8), view = new Int32Array(shared);
const workers = [0, 1, 2, 3].map(n => new Worker(__filename, { workerData: { shared, n } }));
const ends = workers.map(w => new Promise(r => w.on('exit', r)));
const answers = Promise.all(workers.map(w => new Promise((r, e) => { w.on('message', r); w.on('error', e) })));
const poll = setInterval(() => { if (Atomics.load(view, 0) === 4000) { clearInterval(poll); Atomics.store(view, 1, 1); Atomics.notify(view, 1) } }, 2);
answers.then(async all => {
  console.log(all.join(' '), view[0]); await Promise.all(ends);
  const bytes = Uint8Array.from([0,97,115,109,1,0,0,0,1,6,1,96,1,127,1,127,3,2,1,0,7,7,1,3,102,105,98,0,0,10,30,1,28,0,32,0,65,2,72,4,127,32,0,5,32,0,65,1,107,16,0,32,0,65,2,107,16,0,106,11,11]);
  const { instance } = await WebAssembly.instantiate(bytes); console.log(instance.exports.fib(20));
  const endless = new Worker('for (;;);', { eval: true }); await new Promise(r => endless.on('online', r)); console.log('terminated', await endless.terminate());
  const failing = new Worker('throw new Error("in a worker")', { eval: true }); failing.on('error', e => console.log(e.message));
});
"#;
    node(script).same_and_succeeds();
}
