//! LuaJIT: traces compiled to machine code, and callbacks from C into it.

use endo_testing::Guest;

#[test]
fn luajit_compiles_traces_and_is_called_back() {
    let script = r#"
local ffi = require "ffi"
local bit = require "bit"
ffi.cdef[[ void qsort(void *base, size_t n, size_t size, int (*compare)(const int32_t *, const int32_t *)); int abs(int); ]]
local hash = 2166136261
for i = 1, 3e6 do hash = bit.tobit(bit.bxor(hash, bit.band(i, 255)) * 31 + 7) end
print(hash)
local words = {}
for i = 1, 20000 do words[i] = tostring(i * 7919 % 10007) end
table.sort(words)
print(words[1], words[10000], #table.concat(words))
local numbers = ffi.new("int32_t[?]", 1000)
for i = 0, 999 do numbers[i] = (i * 7919) % 1009 end
local calls = 0
local compare = ffi.cast("int (*)(const int32_t *, const int32_t *)", function(a, b) calls = calls + 1 return a[0] - b[0] end)
ffi.C.qsort(numbers, 1000, 4, compare)
compare:free()
local ordered = true
for i = 1, 999 do ordered = ordered and numbers[i - 1] <= numbers[i] end
print(ordered, calls > 1000, ffi.C.abs(-5))
local make = loadstring("return function(x) return x * 2 end")
local sum = 0
for i = 1, 2000 do sum = sum + make()(i) end
print(sum, jit.status())
for i = 1, 50 do jit.flush() for j = 1, 1000 do sum = sum + j % 3 end end
print(sum, pcall(error, "caught"))
"#;
    let outcome =
        Guest::new("/usr/bin/luajit").argument("script.lua").file("script.lua", script).same_and_succeeds();
    assert!(
        outcome.text().contains("true\ttrue\t5\n4002000\ttrue"),
        "the compiler is on: {}",
        outcome.text()
    );
}
