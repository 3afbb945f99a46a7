//! PHP: the interpreter, its just-in-time compiler, processes, and its own HTTP server.

use endo_testing::Guest;

fn php(options: &[&str], script: &str) -> Guest {
    Guest::new("/usr/bin/php").arguments(options).argument("script.php").file("script.php", script)
}

#[test]
fn php_runs_a_script_of_many_features() {
    let script = r#"<?php
declare(strict_types=1);
interface Shape { public function area(): float; }
final class Circle implements Shape { public function __construct(private float $r) {} public function area(): float { return M_PI * $this->r ** 2; } }
enum Suit: string { case Hearts = 'h'; case Spades = 's'; public function label(): string { return ucfirst(strtolower($this->name)); } }
function numbers(int $n): Generator { for ($i = 0; $i < $n; $i++) { $x = yield $i => $i * $i; if ($x) echo "got $x\n"; } return 'end'; }
$words = explode(' ', str_repeat('the quick brown fox jumps over the lazy dog ', 300));
$counts = array_count_values($words); arsort($counts); ksort($counts); print_r(array_slice($counts, 0, 4));
printf("%.6f %s %s\n", (new Circle(2.5))->area(), Suit::from('h')->label(), match (true) { PHP_INT_SIZE === 8 => 'wide', default => 'narrow' });
$g = numbers(4); foreach ($g as $k => $v) echo "$k=>$v "; echo $g->getReturn(), "\n";
echo preg_replace_callback('/(\w)(\w*)/', fn($m) => strtoupper($m[1]) . strrev($m[2]), 'hello regular world'), "\n";
try { intdiv(1, 0); } catch (DivisionByZeroError $e) { echo get_class($e), ': ', $e->getMessage(), "\n"; } finally { echo "finally\n"; }
echo json_encode(['a' => [1, 2.5, null], 'b' => ['c' => true]], JSON_PRETTY_PRINT), "\n"; var_dump(json_decode('{"x":[1,{"y":2}]}', true));
echo hash('sha256', str_repeat('x', 100000)), ' ', crc32('abc'), ' ', base64_encode(gzcompress('zzzzzzzzzz')), "\n";
echo bin2hex(sodium_crypto_generichash('m')), ' ', strlen(password_hash('p', PASSWORD_BCRYPT, ['cost' => 4])), "\n";
echo (new DateTimeImmutable('2024-02-29', new DateTimeZone('UTC')))->modify('+1 year')->format(DATE_ATOM), "\n";
mt_srand(5); echo mt_rand(), ' ', serialize([1, 'a' => new ArrayObject([2])]), "\n";
$fiber = new Fiber(function (string $a): string { $b = Fiber::suspend("$a!"); return "$b?"; });
echo $fiber->start('one'), ' '; $fiber->resume('two'); echo $fiber->getReturn(), "\n";
file_put_contents('f', str_repeat("line\n", 1000)); echo count(file('f')), ' ', filesize('f'), "\n";
fwrite(STDERR, "to standard error\n"); exit(7);
"#;
    let outcome = php(&[], script).same();
    assert_eq!(outcome.status, endo_testing::Status::Exited(7));
    assert!(outcome.text().contains("one! two?"));
}

#[test]
fn php_compiles_hot_code_to_machine_code() {
    let script = r#"<?php
function fib(int $n): int { return $n < 2 ? $n : fib($n - 1) + fib($n - 2); }
function mandelbrot(): int { $sum = 0; for ($y = -39; $y < 39; $y++) for ($x = -39; $x < 39; $x++) {
    $cr = $y / 40.0 - 0.5; $ci = $x / 40.0; $zi = $zr = 0.0; $i = 0;
    do { $t = $zr * $zr - $zi * $zi + $cr; $zi = 2 * $zr * $zi + $ci; $zr = $t; } while ($i++ < 50 && $zr * $zr + $zi * $zi < 16);
    $sum += $i; } return $sum; }
function sieve(int $n): int { $p = array_fill(0, $n + 1, true); $c = 0;
    for ($i = 2; $i <= $n; $i++) if ($p[$i]) { $c++; for ($j = $i * $i; $j <= $n; $j += $i) $p[$j] = false; } return $c; }
function text(int $n): string { $s = ''; for ($i = 0; $i < $n; $i++) { $s .= chr(97 + $i % 26); if ($i % 7 == 0) $s = strrev($s); } return md5($s); }
echo fib(22), ' ', mandelbrot(), ' ', sieve(50000), ' ', text(3000), "\n";
$jit = opcache_get_status()['jit']; echo $jit['on'] && $jit['buffer_free'] < $jit['buffer_size'] ? 'compiled' : 'interpreted', "\n";
"#;
    for mode in ["function", "tracing"] {
        let options = [
            "-d",
            "opcache.enable_cli=1",
            "-d",
            "opcache.jit_buffer_size=16M",
            "-d",
            &format!("opcache.jit={mode}"),
        ];
        let outcome = php(&options, script).same_and_succeeds();
        assert!(outcome.text().ends_with("compiled\n"), "{}", outcome.text());
    }
}

#[test]
fn php_starts_and_signals_processes() {
    let script = r#"<?php
pcntl_async_signals(true); $seen = 0; pcntl_signal(SIGUSR1, function () use (&$seen) { $seen++; });
[$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
$pid = pcntl_fork();
if ($pid === 0) { fwrite($theirs, "from the child\n"); posix_kill(posix_getppid(), SIGUSR1); exit(5); }
echo fgets($ours); pcntl_waitpid($pid, $status); echo pcntl_wexitstatus($status), " $seen\n";
$p = proc_open(['/bin/sh', '-c', 'read x; echo "<$x>"; exit 3'], [['pipe', 'r'], ['pipe', 'w']], $pipes);
fwrite($pipes[0], "in\n"); echo stream_get_contents($pipes[1]), proc_close($p), "\n"; echo shell_exec('echo shell; kill -9 $$'), "\n";
pcntl_alarm(1); $left = sleep(20); echo $left > 0 ? "woken\n" : "slept\n";
"#;
    let script = script.replace(
        "pcntl_alarm(1);",
        "pcntl_signal(SIGALRM, function () { echo \"alarm\\n\"; }); pcntl_alarm(1);",
    );
    php(&[], &script).same_and_succeeds();
}
