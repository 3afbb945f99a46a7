//! Interpreters: Python (Debian's, which is no position-independent executable), Perl, Lua.

use endo_testing::{Guest, Status};

const PYTHON: &str = "/usr/bin/python3.11";

fn python(script: &str) -> Guest {
    Guest::new(PYTHON).arguments(["-I", "script.py"]).file("script.py", script).limit_seconds(60)
}

#[test]
fn python_does_nothing_and_succeeds() {
    Guest::new(PYTHON).arguments(["-c", "pass"]).same_and_succeeds();
}

#[test]
fn python_reads_and_writes_json() {
    let script = r#"
import json
data = [{"id": i, "name": "n%d" % (i * 7919 % 1009), "v": i / 7, "deep": [[i] * 3, {"k": None, "t": True}]} for i in range(3000)]
text = json.dumps(data, sort_keys=True, indent=1)
back = json.loads(text)
assert back == data
print(len(text), hash(text) == hash(text), back[77], text[-60:])
try:
    json.loads('{"a": [1, 2,, 3]}')
except json.JSONDecodeError as e:
    print(e, e.pos)
"#;
    python(script).same_and_succeeds();
}

#[test]
fn python_matches_regular_expressions() {
    let script = r#"
import re
text = " ".join("word%d: %d-%02d;" % (i, i * i, i % 60) for i in range(5000))
print(len(re.findall(r"(\w+): (\d+)-(\d\d)", text)), re.sub(r"(\d)\1+", r"<\1>", text)[:200])
print(re.split(r"[:;]\s*", text)[-5:], re.match(r"(?P<a>\w+)(?=:)", text).groupdict())
print(bool(re.search(r"(a+)+$", "a" * 18 + "b")))
"#;
    python(script).same_and_succeeds();
}

#[test]
fn python_hashes() {
    let script = r#"
import hashlib, zlib, hmac, binascii
data = bytes(i * i % 251 for i in range(1 << 20))
for name in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(name, data)
    print(name, h.hexdigest(16) if name.startswith("shake") else h.hexdigest())
print(zlib.crc32(data), zlib.adler32(data), len(zlib.compress(data)), hmac.new(b"k", data, "sha256").hexdigest())
print(binascii.hexlify(hashlib.pbkdf2_hmac("sha256", b"p", b"s", 2000)))
"#;
    python(script).same_and_succeeds();
}

#[test]
fn python_computes_with_decimals_and_big_numbers() {
    let script = r#"
from decimal import Decimal, getcontext, DivisionByZero
from fractions import Fraction
import math, cmath
getcontext().prec = 300
print(Decimal(2).sqrt(), Decimal(1) / Decimal(7), Decimal("1e-5").ln(), Decimal(3).exp())
try:
    Decimal(1) / Decimal(0)
except DivisionByZero as e:
    print("zero", type(e).__name__)
print(3 ** 2000 % 10 ** 50, math.factorial(300), pow(7, 10 ** 20, 10 ** 9 + 7))
print(sum(Fraction(1, n) for n in range(1, 200)))
print(math.sin(1e22), math.gamma(5.5), cmath.exp(1j * math.pi), math.fsum([0.1] * 10), 0.1 + 0.2, 1e308 * 10, float("nan"))
print(["%.17g" % math.tan(x / 7) for x in range(20)])
"#;
    python(script).same_and_succeeds();
}

#[test]
fn python_loops_100000_times() {
    let script = "
class A:
    def __init__(self, x): self.x = x
    def step(self): self.x = (self.x * 1103515245 + 12345) % 2147483648; return self.x
a = A(1); total = 0; d = {}
for i in range(100000):
    total += a.step() % 1000
    d[i % 777] = d.get(i % 777, 0) + 1
print(total, len(d), sorted(d.items())[:3])
print(sorted((str(x) for x in range(20000)), key=lambda s: (s[-1], s))[:5], sum(x * x for x in range(100000)))
";
    python(script).same_and_succeeds();
}

#[test]
fn python_ends_an_exception_with_a_traceback_and_status_1() {
    let script = "
def f(n):
    if n == 0:
        raise ValueError('deep enough')
    return f(n - 1)
try:
    f(5)
except ValueError as e:
    print('caught', e)
    f(3)
";
    let outcome = python(script).same();
    assert_eq!(outcome.status, Status::Exited(1));
    let text = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        text.starts_with("Traceback (most recent call last):\n")
            && text.ends_with("ValueError: deep enough\n")
    );
}

#[test]
fn python_runs_out_of_recursion_politely() {
    python("def f(n): return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError as e:\n    print(e)\n")
        .same_and_succeeds();
}

#[test]
fn python_uses_files_time_processes_and_ctypes() {
    let script = r#"
import os, sys, tempfile, subprocess, ctypes, struct, collections, itertools, datetime, random, socket, select, mmap
with open("f", "wb") as f: f.write(b"x" * 100000)
with open("f", "r+b") as f:
    m = mmap.mmap(f.fileno(), 0); m[5:8] = b"abc"; print(m.find(b"abc")); m.close()
print(os.path.getsize("f"), open("f", "rb").read()[:10], sorted(os.listdir(".")), oct(os.stat("f").st_mode))
print(subprocess.run(["/bin/echo", "child"], capture_output=True).stdout, subprocess.run(["/bin/false"]).returncode)
libc = ctypes.CDLL("libc.so.6"); print(libc.abs(-5), ctypes.c_size_t(libc.strlen(b"12345")).value)
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
a = (ctypes.c_int * 6)(5, 3, 9, 1, 7, 0); libc.qsort(a, 6, 4, compare(lambda x, y: x[0] - y[0])); print(list(a))
print(struct.pack("<dqH", 1.5, -3, 7).hex(), datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc).timestamp())
random.seed(5); print(random.random(), random.sample(range(1000), 5), random.gauss(0, 1))
a, b = socket.socketpair(); a.send(b"ping"); print(select.select([b], [], [], 1)[0] == [b], b.recv(10))
print(collections.Counter("mississippi").most_common(), list(itertools.permutations("abc"))[:3])
pid = os.fork()
if pid == 0: os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); sys.exit(4)
"#;
    assert_eq!(python(script).same().status, Status::Exited(4));
}

const PERL: &str = r#"
use strict; use warnings; use List::Util qw(sum max); use Digest::SHA qw(sha256_hex); use POSIX qw(floor); use Data::Dumper;
my %count; my $text = join " ", map { "w" . ($_ * 7919 % 997) } 1 .. 20000;
$count{$_}++ for split / /, $text;
print join(",", map { "$_=$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 9]), "\n";
(my $t = $text) =~ s/(\d)(\d)/$2$1/g; print length($t), " ", sha256_hex($t), "\n";
my @m = $text =~ /\bw(9\d+)\b/g; print scalar(@m), " ", sum(@m), " ", max(@m), "\n";
sub fib { my $n = shift; $n < 2 ? $n : fib($n - 1) + fib($n - 2) } print fib(18), "\n";
printf "%.15g %e %s %b\n", atan2(1, 1) * 4, 1.5e-7, floor(-2.5), 37;
local $Data::Dumper::Sortkeys = 1; print Dumper({ a => [1, { b => undef }], c => \"x" });
eval { die { code => 5 } }; print $@->{code}, "\n"; eval { my $z = 0; my $y = 1 / $z; }; print $@;
my $s = sprintf "%vd", "1.22.333"; print "$s ", (pack "NnC", 1, 2, 3) eq "\0\0\0\1\0\2\3" ? "ok" : "no", "\n";
open my $f, "-|", "echo from a child" or die; print <$f>; close $f; print `echo again`; system "sh", "-c", "exit 3"; print $? >> 8, "\n";
$SIG{ALRM} = sub { print "alarm\n" }; kill ALRM => $$; $! = 9; die "the end\n";
"#;

#[test]
fn perl_runs_a_script_of_many_features() {
    let outcome = Guest::new("/usr/bin/perl").arguments(["script.pl"]).file("script.pl", PERL).same();
    assert_eq!(outcome.status, Status::Exited(9));
    assert_eq!(outcome.stderr, b"the end\n");
}

#[test]
fn perl_loops_and_hashes() {
    let script = "my %h; my $x = 1; for my $i (1..200000) { $x = ($x * 16807) % 2147483647; $h{$x % 5000} .= chr(65 + $x % 26); } \
                  my $n = 0; $n += length $h{$_} for keys %h; print \"$n $x\\n\"; print join('', sort map { substr $_, 0, 1 } values %h), \"\\n\";";
    Guest::new("/usr/bin/perl").arguments(["-e", script]).variable("PERL_HASH_SEED", "0").same_and_succeeds();
}

const LUA: &str = r#"
local t = {}
for i = 1, 100000 do t[i] = (i * 7919) % 100003 end
table.sort(t); print(t[1], t[50000], #t)
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print(fib(22), 7 // 2, 7.5 % 2, 2 ^ 0.5, 1 << 40, "10" + 5, math.maxinteger + 1 == math.mininteger)
local s = {} for w in ("the quick brown fox"):gmatch("%a+") do s[#s + 1] = w:upper():reverse() end
print(table.concat(s, "-"), ("x"):rep(5), ("%5.2f|%q"):format(math.pi, "a\nb"), ("hello"):gsub("l", { l = "L" }))
local co = coroutine.wrap(function(a) for i = 1, 3 do a = coroutine.yield(a * i) end return "done" end)
print(co(10), co(20), co(30), co(40))
print(pcall(function() error({ code = 3 }) end), select(2, pcall(error, "message", 0)), pcall(string.rep))
local mt = setmetatable({}, { __index = function(_, k) return k .. "!" end, __call = function(_, x) return x * 2 end })
print(mt.foo, mt(21), #arg, string.pack("<i4", 100):byte(1, -1))
collectgarbage(); goto out; print("never")
::out:: os.exit(6)
"#;

#[test]
fn lua_runs_a_script_of_many_features() {
    let outcome = Guest::new("/usr/bin/lua5.4").arguments(["s.lua"]).file("s.lua", LUA).same();
    assert_eq!(outcome.status, Status::Exited(6));
}

#[test]
fn lua_reports_an_error_with_its_traceback() {
    let outcome = Guest::new("/usr/bin/lua5.4")
        .arguments(["s.lua"])
        .file("s.lua", "local x = nil\nprint(x.y)\n")
        .same();
    assert_eq!(outcome.status, Status::Exited(1));
}

#[test]
fn pythons_closures_are_called_from_c() {
    let script = r#"
import ctypes, ctypes.util
libc = ctypes.CDLL(None)
compare_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
calls = 0
def compare(a, b):
    global calls
    calls += 1
    return a[0] - b[0]
values = (ctypes.c_int * 200)(*[i * 7919 % 211 for i in range(200)])
libc.qsort(values, len(values), ctypes.sizeof(ctypes.c_int), compare_type(compare))
print(list(values) == sorted(values), calls > 200)
# Closures that come and go, with every kind of argument.
kind = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_longlong, ctypes.c_char_p, ctypes.c_float)
total = 0.0
for i in range(300):
    closure = kind(lambda d, n, s, f, i=i: d + n + len(s) + f + i)
    total += ctypes.cast(closure, kind)(0.5, i, b"abc", 0.25)
print(total)
"#;
    let outcome = Guest::new("/usr/bin/python3.11").arguments(["-c", script]).same_and_succeeds();
    assert_eq!(outcome.text(), "True True\n90825.0\n");
}

#[test]
fn libraries_are_loaded_into_name_spaces_of_their_own() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/guests/namespaces.c");
    let guest = Guest::new(endo_testing::compile("gcc -O1 -w", &[source.into()]));
    let outcome = guest.same_and_succeeds();
    assert_eq!(outcome.text(), "same code at another place 1, own data 1, result 1, 20 times\n");
}
