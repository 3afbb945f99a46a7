//! Building programs: make, the whole of gcc's pipeline, configure scripts.

use endo_testing::Guest;

/// A program of several files with a library; `make -j2` builds it, and again after a change.
const BUILD: &str = r#"
    for i in 1 2 3 4 5; do
        printf '#include "all.h"\nint f%d(int x) { int s = 0; while (x--) s += x * %d ^ s >> 3; return s; }\n' $i $i > m$i.c
        echo "int f$i(int);" >> all.h
    done
    printf '#include <stdio.h>\n#include "all.h"\nint main(void) { printf("%%d %%d\\n", f1(10), f5(1000)); }\n' > main.c
    make -j2 -s check && make -q program; echo "up to date: $?"
    echo 'int f6(void) { return 6; }' >> m3.c; touch -d '1 hour' m3.c
    make -n | grep -c 'm3\|program'; make -j2 -s check 2>&1
    printf 'int main(void) { return undeclared; }\n' > main.c; touch -d '2 hours' main.c; make -s 2>&1; echo "status $?"
    gcc -v -o program m1.c 2>&1 | tail -n 2; nm libm.a | grep -c ' T '; objdump -d m1.o | grep -c ret
    rm -f *.o
"#;

const MAKEFILE: &str = "
program: main.o libm.a
	gcc -o $@ main.o libm.a
libm.a: m1.o m2.o m3.o m4.o m5.o
	ar rcD $@ $^
%.o: %.c all.h
	gcc -O2 -c $< -o $@
check: program
	./program
.PHONY: check
";

/// What autoconf's scripts do: programs that are compiled, run and thrown away.
const CONFIGURE: &str = r##"#!/bin/sh
exec 5>config.log
say() { echo "checking $1... $2"; }
try() { echo "$1" > conftest.c; gcc -o conftest conftest.c >&5 2>&1 && ./conftest; }
try 'int main(void) { return 0; }' && say 'whether gcc works' yes
for header in stdio.h sys/epoll.h nosuch.h; do
    if echo "#include <$header>" | gcc -E - >/dev/null 2>&5; then found=yes; else found=no; fi
    say "for $header" $found
    name=$(echo HAVE_$header | tr 'a-z/.' 'A-Z__'); [ $found = yes ] && echo "#define $name 1" >> confdefs.h
done
for function in fork epoll_create1 nosuchfunction; do
    if try "char $function(); int main(void) { return !&$function; }" 2>&5; then found=yes; else found=no; fi
    say "for $function" $found
done
for type in int long 'void *'; do
    say "size of $type" $(try "#include <stdio.h>
        int main(void) { printf(\"%d\", (int)sizeof($type)); return 0; }")
done
sed -e "s,@CC@,gcc,g; s,@prefix@,${prefix:-/usr/local},g" > Makefile <<END
all:; @echo @CC@ @prefix@
END
rm -f conftest* config.log
echo 'config.status: creating Makefile'
"##;

#[test]
fn make_builds_a_program_with_gcc_as_and_ld() {
    let guest = Guest::new("/bin/sh").arguments(["-c", BUILD]).file("Makefile", MAKEFILE).limit_seconds(120);
    let outcome = guest.same_and_succeeds();
    assert!(outcome.text().contains("up to date: 0\n"), "{}", outcome.text());
}

#[test]
fn a_configure_script_finds_out_what_it_does_natively() {
    let script = "./configure && make && cat confdefs.h";
    let guest = Guest::shell(script).executable_file("configure", CONFIGURE).limit_seconds(120);
    let outcome = guest.same_and_succeeds();
    assert!(outcome.text().contains("checking size of void *... 8\n"), "{}", outcome.text());
}
