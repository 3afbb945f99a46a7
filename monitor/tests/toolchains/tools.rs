//! Tools that work with several processes or threads: rsync, ssh-keygen, vim, xz, sort, ffmpeg.

use endo_testing::{Guest, data};

#[test]
fn rsync_copies_locally_and_through_a_pipe() {
    let script = r#"
        mkdir -p w/a/b && cd w
        for i in $(seq 30); do seq $((i * 20)) > a/b/f$i; done; ln -s b/f1 a/link; ln a/b/f2 a/hard; touch -d 2020-01-01 a/b/*
        rsync -aHi a/ c/ | sort; diff -r a c && echo same
        seq 10 > a/b/f3; rsync -aiO --delete a/ c/; rm a/b/f4; rsync -aiO --checksum --delete a/ c/
        printf '#!/bin/sh\nshift\nexec "$@"\n' > remote; chmod +x remote
        rsync -aiO -z -e "$PWD/remote" a/ "host:$PWD/d/" | wc -l; diff -r a d && echo same; rsync a/nosuch e 2>/dev/null; echo $?
    "#;
    let script = format!("{script}\n cd .. && rm -rf w");
    let outcome = Guest::shell(&script).limit_seconds(60).same_and_succeeds();
    assert_eq!(outcome.text().matches("same\n").count(), 2, "{}", outcome.text());
}

#[test]
fn ssh_keygen_makes_keys_and_signatures() {
    let script = r#"
        for type in rsa ed25519 ecdsa; do
            ssh-keygen -q -t $type -N '' -C comment -f $type; ssh-keygen -l -f $type | cut -d' ' -f1,3,4
            ssh-keygen -y -f $type > again; cut -d' ' -f1,2 $type.pub > first; cut -d' ' -f1,2 again | cmp - first && echo right
        done
        echo text > message; ssh-keygen -q -Y sign -f ed25519 -n file message; echo "me $(cat ed25519.pub)" > signers
        ssh-keygen -Y verify -f signers -I me -n file -s message.sig < message | cut -d' ' -f1-6
        echo other | ssh-keygen -Y verify -f signers -I me -n file -s message.sig 2>&1; echo $?; rm -f *
    "#;
    let outcome = Guest::shell(script).limit_seconds(60).same_and_succeeds();
    assert_eq!(outcome.text().matches("right\n").count(), 3, "{}", outcome.text());
}

#[test]
fn vim_edits_without_a_terminal() {
    let script = r#"
        vim.tiny -es -u NONE -c '%sort' -c 'g/b/s//B/' -c 'normal ggOtop' -c wq f; echo $?
        printf '1,2d\nw\nq\n' | vim.tiny -es -u NONE f; vim.tiny -es -u NONE -c 'r f' -c 'w! g' -c 'q!'; cat f g
        vim.tiny -es -u NONE -c 'cquit 5'; echo $?
    "#;
    let outcome = Guest::shell(script).file("f", "b\na\nc\n").same_and_succeeds();
    assert!(outcome.text().ends_with("\n5\n"), "{}", outcome.text());
}

#[test]
fn xz_compresses_and_decompresses_with_two_threads() {
    let script = "xz -k -1 -T2 --block-size=300000 file && xz -lv --robot file.xz | grep -c ^block && xz -dc -T2 file.xz | cmp - file";
    let outcome =
        Guest::shell(script).file("file", data::text(1 << 20, 7)).limit_seconds(60).same_and_succeeds();
    assert_eq!(outcome.text(), "4\n");
}

#[test]
fn sort_sorts_with_two_threads() {
    let guest = Guest::new("/usr/bin/sort").arguments(["--parallel=2", "-S", "50M", "file"]);
    guest.file("file", data::text(2 << 20, 7)).limit_seconds(60).same_and_succeeds();
}

#[test]
fn ffmpeg_encodes_a_test_picture() {
    let script = "
        ffmpeg -nostdin -v error -f lavfi -i testsrc=duration=1:size=160x120:rate=10 -threads 2 -c:v mpeg4 -bitexact -f avi a.avi
        ffmpeg -nostdin -v error -i a.avi -f framemd5 -
    ";
    let outcome = Guest::shell(script).limit_seconds(120).same_and_succeeds();
    assert_eq!(
        outcome.text().lines().filter(|line| line.starts_with("0,")).count(),
        10,
        "{}",
        outcome.text()
    );
}
