# tap.awk FILE.bats FILE.tap: a line "runtime file test result" for every test that
# the file has, separated by tabs. A test without a result (its file was killed
# before) is a failed one.
BEGIN { OFS = "\t" }

NR == FNR {
    if (/^@test /) {
        sub(/^@test ["']/, "")
        sub(/["'] *\{ *$/, "")
        gsub(/\\"/, "\"")
        names[++count] = $0
    }
    next
}

/^(ok|not ok) [0-9]+ / {
    number = $1 == "ok" ? $2 : $3
    result[number] = $1 == "not" ? "fail" : (/ # skip/ ? "skip" : "pass")
}

END {
    for (i = 1; i <= count; i++)
        print runtime, file, names[i], (i in result ? result[i] : "fail")
}
