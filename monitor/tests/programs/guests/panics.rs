//! Panics caught and passed on, destructors, trait objects, closures, collections, integer and float formatting.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};

struct Noisy(u32);

impl Drop for Noisy {
    fn drop(&mut self) {
        print!("-{} ", self.0);
    }
}

trait Animal {
    fn speak(&self, times: usize) -> String;
    fn legs(&self) -> u32 {
        4
    }
}
struct Dog;
struct Bird {
    name: String,
}
impl Animal for Dog {
    fn speak(&self, times: usize) -> String {
        "wuff".repeat(times)
    }
}
impl Animal for Bird {
    fn speak(&self, times: usize) -> String {
        format!("{}:{}", self.name, "piep".repeat(times))
    }
    fn legs(&self) -> u32 {
        2
    }
}

#[inline(never)]
fn deep(n: u32, kind: u32) -> u32 {
    let _guard = Noisy(n);
    if n == 0 {
        match kind {
            0 => panic!("a formatted {}", kind + 7),
            1 => [1, 2, 3][std::hint::black_box(9)],
            2 => 10 / std::hint::black_box(0),
            3 => panic::panic_any(77u64),
            4 => None::<u32>.expect("was none"),
            _ => kind,
        }
    } else {
        deep(n - 1, kind) + 1
    }
}

fn show(value: impl Display) {
    println!("{value:>12}|");
}

fn main() {
    panic::set_hook(Box::new(|info| print!("<{}> ", info.location().map_or(0, |place| place.line()))));
    for kind in 0..6 {
        match panic::catch_unwind(|| deep(3, kind)) {
            Ok(value) => println!("value {value}"),
            Err(cause) => match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>(), cause.downcast_ref::<u64>()) {
                (Some(text), ..) => println!("text {text}"),
                (_, Some(text), _) => println!("string {text}"),
                (.., Some(number)) => println!("number {number}"),
                _ => println!("something"),
            },
        }
    }
    let mut total = 0;
    for round in 0..500 {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let inner = panic::catch_unwind(|| deep_quiet(round % 10));
            panic::resume_unwind(inner.unwrap_err());
        }));
        total += result.unwrap_err().downcast_ref::<u32>().copied().unwrap_or(1000);
    }
    println!("{total}");
    let animals: Vec<Box<dyn Animal>> = (0..100)
        .map(|i| if i % 3 == 0 { Box::new(Bird { name: i.to_string() }) as Box<dyn Animal> } else { Box::new(Dog) })
        .collect();
    let legs: u32 = animals.iter().map(|animal| animal.legs()).sum();
    println!("{legs} {} {}", animals[3].speak(2), animals[4].speak(1));
    let mut map = BTreeMap::new();
    let mut counts: HashMap<u64, u32> = HashMap::new();
    let mut x = 1u64;
    for _ in 0..20000 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *map.entry(x >> 56).or_insert(0u64) += x & 0xff;
        *counts.entry(x >> 50).or_default() += 1;
    }
    println!("{:?} {} {}", map.iter().take(3).collect::<Vec<_>>(), counts.len(), counts.values().max().unwrap());
    show(1.0 / 3.0);
    show(f64::MAX);
    show(i128::MIN);
    show(u64::MAX as f32);
    println!("{:e} {:?} {:?}", 1234.5678f64, "1e-300".parse::<f64>(), "x".parse::<i32>().map_err(|e| e.to_string()));
    let mut words: Vec<&str> = "the quick brown fox jumps over the lazy dog".split(' ').collect();
    words.sort_by_key(|word| (word.len(), *word));
    println!("{words:?}");
    panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let _guard = Noisy(99);
    panic!("nobody catches this");
}

#[inline(never)]
fn deep_quiet(n: u32) -> u32 {
    if n == 0 { panic::resume_unwind(Box::new(n + 5)) } else { deep_quiet(n - 1) + 1 }
}
