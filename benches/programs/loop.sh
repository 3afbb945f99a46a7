# Builtins only.
i=0 s= t=0
while [ $i -lt "$1" ]; do
    i=$((i + 1))
    s=${s#??????????}$i
    case $s in *77*) t=$((t + 1)) ;; esac
done
echo "$t $s"
