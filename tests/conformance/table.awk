# table.awk summary.tsv: a table of counts per file, the tests in which the
# runtimes differ, the tests that fail for all, and the counts of all. With
# runc and minirun among the runtimes, fails if minirun fails what runc passes
# and DOCUMENT does not name the test.
BEGIN {
    FS = "\t"
    n = split(runtimes, runtime, " ")
    while ((getline line < document) > 0)
        explained = explained line "\n"
}

{
    if (!($2 in seen)) {
        seen[$2] = 1
        files[++nfiles] = $2
    }
    key = $2 FS $3
    if (!(key in tests)) {
        tests[key] = 1
        order[++ntests] = key
    }
    result[$1, key] = $4
    count[$1, $2, $4]++
    count[$1, "total", $4]++
}

function row(file,    i, r) {
    printf "%-28s", file
    for (i = 1; i <= n; i++) {
        r = runtime[i]
        printf "  %5d %5d %5d", count[r, file, "pass"], count[r, file, "skip"], count[r, file, "fail"]
    }
    print ""
}

function same(key,    i) {
    for (i = 2; i <= n; i++)
        if (result[runtime[i], key] != result[runtime[1], key])
            return 0
    return 1
}

END {
    printf "%-28s", ""
    for (i = 1; i <= n; i++)
        printf "  %-17s", runtime[i]
    printf "\n%-28s", "file"
    for (i = 1; i <= n; i++)
        printf "  %5s %5s %5s", "pass", "skip", "fail"
    print ""
    for (i = 1; i <= nfiles; i++)
        row(files[i])
    row("total")

    for (i = 1; i <= ntests; i++) {
        key = order[i]
        split(key, part, FS)
        if (same(key)) {
            if (result[runtime[1], key] == "fail")
                failing = failing "  " part[1] ": " part[2] "\n"
            continue
        }
        line = ""
        for (j = 1; j <= n; j++)
            line = line sprintf("%s %s  ", runtime[j], result[runtime[j], key])
        note = ""
        if (result["runc", key] == "pass" && result["minirun", key] == "fail" &&
            !index(explained, "`" part[2] "`")) {
            note = "  (not explained)"
            unexplained++
        }
        differing = differing "  " line " " part[1] ": " part[2] note "\n"
    }
    if (differing != "")
        printf "\nDifferent:\n%s", differing
    if (failing != "")
        printf "\nFailing%s:\n%s", (n > 1 ? " for each" : ""), failing
    print ""
    for (i = 1; i <= n; i++) {
        r = runtime[i]
        printf "%s: %d passed, %d failed, %d skipped\n", r,
            count[r, "total", "pass"], count[r, "total", "fail"], count[r, "total", "skip"]
    }
    if (unexplained) {
        printf "%d tests fail on minirun alone and are not explained in docs/conformance.md\n", unexplained
        exit 1
    }
}
