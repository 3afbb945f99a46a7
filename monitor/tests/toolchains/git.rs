//! git: its own processes, threads, locks, mapped files and pipes.

use endo_testing::Guest;

/// Two branches, merged, packed, checked, cloned through a pipe and looked at. The work lies in a directory that is removed:
/// an index holds inode numbers.
const SESSION: &str = r#"
    set -e; mkdir w; cd w
    git init -q r && cd r
    for i in 1 2 3 4; do seq $((i * 100)) > f$i; git add f$i; git commit -qm "change $i"; done
    git checkout -qb side HEAD~2; echo x >> f1; git commit -qam side; git checkout -q main; git merge -qm merged side
    git log --oneline --graph; git gc -q; git fsck --full 2>&1; git count-objects -v | grep -v size
    cd ..; git clone -q "file://$PWD/r" c 2>&1; cd c
    git status; git diff HEAD~1 --stat; git archive HEAD | tar t; git grep -n 42 | head -n 3
    git blame f1 | tail -n 1; echo y >> f2; git stash -q; git stash list; git stash pop -q; git diff | sha256sum
    git bisect start HEAD HEAD~3 | tail -n 1; git rebase -q nosuch 2>&1 | head -n 1
    git rev-list --objects --all | wc -l; git ls-files -s
    cd ../..; rm -rf w
"#;

#[test]
fn commits_are_made_packed_checked_and_cloned() {
    let mut guest = Guest::shell(SESSION).limit_seconds(120);
    for who in ["AUTHOR", "COMMITTER"] {
        guest = guest
            .variable(&format!("GIT_{who}_NAME"), "A")
            .variable(&format!("GIT_{who}_EMAIL"), "a@example.org")
            .variable(&format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
    }
    let configuration = [("GIT_CONFIG_GLOBAL", "gitconfig"), ("GIT_CONFIG_NOSYSTEM", "1")];
    for (name, value) in configuration {
        guest = guest.variable(name, value);
    }
    let guest = guest
        .variable("GIT_CONFIG_COUNT", "1")
        .variable("GIT_CONFIG_KEY_0", "init.defaultBranch")
        .variable("GIT_CONFIG_VALUE_0", "main");
    let outcome = guest.same_and_succeeds();
    assert!(outcome.text().contains("merged"), "{}", outcome.text());
}
