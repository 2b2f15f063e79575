# The rows of a Markdown table from what divan prints: review, median, allocations and bytes of one decision.
/(├|╰)─ / { line = $0; sub(/^.*─ /, "", line); split(line, column, "│"); name = column[1]; median = column[3]
            sub(/ +[0-9.]+ (n|µ|m)?s *$/, "", name); gsub(/^ +| +$/, "", median); next }
/ alloc:/ && !/max alloc/ { next_line = "count"; next }
next_line != "" { value = $0; gsub(/^[ │]+/, "", value); split(value, column, "│"); value = column[1]; gsub(/ +$/, "", value)
                  if (next_line == "count") { count = value; next_line = "bytes" }
                  else { print "| " name " | " median " | " count " | " value " |"; next_line = "" } }
