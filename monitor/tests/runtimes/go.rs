//! Go: static programs that make system calls and threads without a C library, and programs linked with one; goroutines,
//! preemption by signals, garbage collection, children.

use endo_testing::{Guest, data};

#[test]
fn a_static_go_program_computes_and_collects_garbage() {
    let filter = "[limit(20000; range(1; 1000000)) | {key: (. * 7919 % 1009 | tostring), value: .}] | group_by(.key)
        | map({(.[0].key): (map(.value) | add)}) | add | to_entries | sort_by(-.value) | .[:5], (map(.key | length) | add)";
    Guest::new("/usr/bin/gojq")
        .arguments(["-n", "-c", filter])
        .variable("GOGC", "10")
        .limit_seconds(60)
        .same_and_succeeds();
}

#[test]
fn a_static_go_program_reads_and_fails_as_natively() {
    let formatted =
        "if true;then\necho   a&&b\nfor i in 1 2;do echo $i;done;fi\ncase x in a)y;; *)z;; esac\n".repeat(50);
    let guest = Guest::new("/usr/bin/shfmt").arguments(["-i", "4", "-d", "s.sh"]).file("s.sh", formatted);
    assert!(guest.same().text().contains("+    for i in 1 2; do echo $i; done"));
    Guest::new("/usr/bin/gojq").argument(".a | error").stdin("{\"a\": {\"b\": 1}}").same();
}

#[test]
fn a_go_program_filters_on_many_threads() {
    let guest = Guest::new("/usr/bin/fzf").arguments(["--filter", "kam"]).stdin(words()).limit_seconds(60);
    assert!(guest.same_and_succeeds().text().lines().count() > 100);
}

#[test]
fn a_go_program_reads_from_a_child_and_replaces_itself() {
    let script = "export XDG_DATA_HOME=$PWD/data XDG_CONFIG_HOME=$PWD/configuration
        direnv exec . sh -c 'echo unreachable'; echo $?; direnv allow . && direnv exec . sh -c 'echo $FROM_CHILD; exit 5'; echo $?";
    let guest = Guest::shell(script)
        .file(".envrc", "export FROM_CHILD=$(echo read | tr a-z A-Z)\n")
        .limit_seconds(60);
    let outcome = guest.run(&endo_testing::Under::Native);
    assert!(outcome.text().ends_with("READ\n5\n"), "{outcome:?}");
    let ours = guest.run(&endo_testing::Under::Endo);
    assert_eq!(ours.text(), outcome.text(), "{}", String::from_utf8_lossy(&ours.stderr));
}

/// Many lines of one word.
fn words() -> Vec<u8> {
    data::text(400 << 10, 5).into_iter().map(|byte| if byte == b' ' { b'\n' } else { byte }).collect()
}

const MODULE: &str = "import { shape, type Named } from './shape';
export class Box<T extends Named> { #inside: T[] = []; constructor(private readonly size = 3) {}
  put(...more: T[]) { this.#inside = [...this.#inside, ...more].slice(0, this.size); return this }
  get names() { return this.#inside.map(({ name }) => name ?? 'none').join(`, `) } }
console.log(new Box<Named>().put(shape('a'), shape('b')).names, <const>['x'], async () => { for await (const x of []) await x });
";

#[test]
fn a_go_program_bundles_in_parallel() {
    let mut guest = Guest::new("/usr/bin/esbuild").limit_seconds(60);
    let mut main = String::new();
    for number in 0..30 {
        guest = guest.file(&format!("m{number}.ts"), MODULE.replace("Box", &format!("Box{number}")));
        main.push_str(&format!("export * from './m{number}';\n"));
    }
    let shape = "export interface Named { name?: string }\nexport const shape = (name: string): Named => ({ name });\n";
    let guest = guest.file("main.ts", main).file("shape.ts", shape).arguments([
        "main.ts",
        "--bundle",
        "--minify",
        "--sourcemap",
        "--target=es2017",
        "--outfile=out.js",
        "--log-level=warning",
    ]);
    assert!(guest.same_and_succeeds().files.contains_key("out.js.map"));
}

#[test]
fn a_go_program_replaces_itself() {
    let script =
        "exec /usr/sbin/gosu \"$(id -u):$(id -g)\" sh -c 'echo \"now $0 $(id -u)\"; kill -TERM $$' replaced";
    assert!(Guest::shell(script).same().text().starts_with("now replaced "));
}
