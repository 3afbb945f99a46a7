-- Tables, closures, strings and calls.
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local t, x, s = {}, 1, 0
for i = 1, tonumber(arg[1]) do
  x = (x * 16807) % 2147483647
  t[x % 4096] = (t[x % 4096] or 0) + i
  if i % 100 == 0 then s = s + fib(8) + #tostring(x):gsub("7", "seven") end
end
table.sort(t, function(a, b) return (a or 0) < (b or 0) end)
print(s, x, #t)
