//! Ruby: the interpreter, threads, fibers, processes. (The just-in-time compiler of Ruby 3.1 takes for granted that its
//! objects lie above 4 GiB: it records where eight bytes of an address are and emits four if four are enough.)

use endo_testing::{Guest, Status};

fn ruby(script: &str) -> Guest {
    Guest::new("/usr/bin/ruby").argument("script.rb").file("script.rb", script).limit_seconds(60)
}

#[test]
fn ruby_runs_a_script_of_many_features() {
    let script = r##"
require 'json'; require 'digest'; require 'set'; require 'bigdecimal'; require 'stringio'; require 'zlib'
Point = Struct.new(:x, :y) do def +(o) = Point.new(x + o.x, y + o.y) end
puts [Point.new(1, 2), Point.new(3, 4)].reduce(:+).inspect
words = ('the quick brown fox jumps over the lazy dog ' * 300).split
puts words.tally.sort_by { |w, n| [-n, w] }.first(3).inspect, words.each_slice(7).map(&:join).uniq.size
def fib(n) = n < 2 ? n : fib(n - 1) + fib(n - 2)
puts fib(18), (1..200).inject(:*).digits.sum, 2 ** 300 % 1_000_007, BigDecimal('2').sqrt(40).to_s
case { name: "n", list: [1, [2, 3]] }
in { name: String => s, list: [Integer => a, [*, b]] } then puts "#{s} #{a} #{b}"
end
puts JSON.pretty_generate(JSON.parse('{"a": [1, 2.5, null, {"b": true}]}')), Digest::SHA256.hexdigest('x' * 100_000)
f = Fiber.new { |x| y = Fiber.yield(x * 2); Fiber.yield(y + 1); :done }
puts [f.resume(5), f.resume(6), f.resume].inspect
e = Enumerator.new { |y| a, b = 0, 1; loop { y << a; a, b = b, a + b } }; puts e.lazy.select(&:even?).first(8).inspect
begin; raise ArgumentError, 'bad'; rescue => err; puts "#{err.class}: #{err.message}"; ensure puts 'ensured'; end
puts "naïve café".unicode_normalize(:nfd).length, 'abc'.encode('UTF-16LE').bytes.inspect, "%08.3f|%-5s|%+d" % [3.14159, 'ab', 7]
puts 'x1y22z333'.gsub(/(\w)(\d+)/) { "#{$2}#{$1.upcase}" }, Zlib.inflate(Zlib.deflate('z' * 1000)).size
catch(:out) { 10.times { |i| throw :out if i == 3 } }; ObjectSpace.garbage_collect; puts GC.count > 0
def method_missing(name, *args) = name.to_s.start_with?('dyn') ? "#{name}(#{args.join(',')})" : super
puts dyn_call(1, 2); at_exit { puts 'at exit' }; $stderr.puts 'to standard error'; exit 6
"##;
    assert_eq!(ruby(script).same().status, Status::Exited(6));
}

#[test]
fn ruby_runs_threads() {
    let script = r#"
require 'timeout'
queue = Queue.new; results = Queue.new
workers = 4.times.map { |w| Thread.new { while (n = queue.pop) != :end; results << n * n; end; w } }
500.times { |n| queue << n }; 4.times { queue << :end }
puts workers.map(&:value).sum, 500.times.map { results.pop }.sum
lock = Mutex.new; count = 0; 8.times.map { Thread.new { 200.times { lock.synchronize { count += 1 } } } }.each(&:join); puts count
r, w = IO.pipe; t = Thread.new { r.read }; w << 'through a pipe'; w.close; puts t.value
begin; Timeout.timeout(0.05) { sleep 20 }; rescue Timeout::Error => e; puts e.class; end
t = Thread.new { Thread.stop; :woken }; Thread.pass until t.stop?; t.run; puts t.value
t = Thread.new { raise 'in a thread' }; t.report_on_exception = false; begin; t.join; rescue => e; puts e.message; end
ready = ConditionVariable.new; ok = false; waiter = Thread.new { lock.synchronize { ready.wait(lock) until ok; :signalled } }
lock.synchronize { ok = true; ready.signal }; puts waiter.value
Ractor.new { Ractor.receive * 2 }.then { |r| r.send(21); puts r.take }
"#;
    ruby(&format!("Warning[:experimental] = false\n{script}")).same_and_succeeds();
}

#[test]
fn ruby_starts_and_signals_processes() {
    let script = r#"
puts `echo from a shell; exit 3`, $?.exitstatus
pid = fork { trap('USR1') { exit 4 }; puts 'child'; $stdout.flush; Process.kill('USR2', Process.ppid); sleep 20 }
seen = false; trap('USR2') { seen = true }; sleep 0.01 until seen; Process.kill('USR1', pid); Process.wait(pid); puts $?.exitstatus
IO.popen(['cat', '-n'], 'r+') { |io| io.puts 'a', 'b'; io.close_write; puts io.read }
r, w = IO.pipe; Process.wait(spawn('sh', '-c', 'echo spawned >&2', err: w)); w.close; puts r.read
puts system('kill -9 $$').inspect, $?.termsig; exec 'echo', 'the end'
"#;
    ruby(script).same_and_succeeds();
}
