# Words, arrays and numbers.
{ for (i = 1; i <= NF; i++) count[$i]++; if ($2 ~ /^k.*n$/) hits++; total += length($0) }
END { for (word in count) n += length(word) * count[word]; print n, hits, total }
