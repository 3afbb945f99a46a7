# Hashes, strings, regular expressions and calls.
use strict;
my ($x, %h, $n, $r) = (1);
sub fib { my $n = shift; $n < 2 ? $n : fib($n - 1) + fib($n - 2) }
for my $i (1 .. $ARGV[0]) {
    $x = ($x * 16807) % 2147483647;
    $h{$x % 5000} .= chr(65 + $x % 26);
    $r++ if "$x" =~ /(\d)\1.*7$/;
    $n += fib(9) if $i % 500 == 0;
}
$n += length $h{$_} for keys %h;
print "$n $r $x\n";
