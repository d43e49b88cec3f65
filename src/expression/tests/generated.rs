//! Expressions by chance, from fixed seeds: whatever comes compiles or is refused, gives something or fails, within its bounds.

use std::time::{Duration, Instant};

use super::super::{Budget, COST, Expression, MEMORY, Value};
use super::NAMES;

/// A small generator of numbers (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.below(from.len())]
    }

    /// A source that is mostly right.
    fn expression(&mut self, depth: usize) -> String {
        let leaves = [
            "1",
            "-1",
            "0",
            "2u",
            "1.5",
            "'a'",
            "''",
            "b'\\xff'",
            "true",
            "false",
            "null",
            "value",
            "headers",
            "number",
            "x",
            "[]",
            "{}",
            "9223372036854775807",
            "int",
            "json(value)",
            "[1,2,3,4,5,6,7,8,9,10]",
        ];
        if depth == 0 {
            return self.pick(&leaves).to_owned();
        }
        let (one, two) = (self.expression(depth - 1), self.expression(depth - 1));
        match self.below(14) {
            0..=3 => {
                let operator = self.pick(&[
                    "+", "-", "*", "/", "%", "==", "!=", "<", ">=", "in", "&&", "||",
                ]);
                format!("({one} {operator} {two})")
            }
            4 => format!("({one} ? {two} : {})", self.expression(depth - 1)),
            5 | 6 => {
                let name = self.pick(&["all", "exists", "exists_one", "map", "filter"]);
                format!("{one}.{name}(x, {two})")
            }
            7 => format!("[{one}, {two}, {one}]"),
            8 => format!("{{{one}: {two}}}"),
            9 => format!("{one}[{two}]"),
            10 => format!(
                "{}({one})",
                self.pick(&[
                    "size", "int", "uint", "double", "string", "bytes", "bool", "type", "json",
                    "!", "-"
                ])
            ),
            11 => format!(
                "{one}.{}({two})",
                self.pick(&["contains", "startsWith", "endsWith", "matches", "orValue"])
            ),
            12 => format!("{one}.{}", self.pick(&["a", "?a", "n"])),
            _ => format!("(value + {one} + value + {two})"),
        }
    }

    /// Tokens in any order.
    fn rubbish(&mut self) -> String {
        let tokens = [
            "1",
            "x",
            "value",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ".",
            "?",
            ":",
            ",",
            "+",
            "-",
            "!",
            "==",
            "&&",
            "'a'",
            "'",
            "\"\"\"",
            "r'",
            "b'",
            "\\",
            "`",
            "0x",
            "1e",
            "//",
            "\n",
            "in",
            "has(",
            ".map(x,",
            "é",
            "\u{0}",
            "u",
            "optional.",
            "=",
        ];
        (0..self.below(60)).map(|_| self.pick(&tokens)).collect()
    }
}

fn evaluate(source: &str, value: &[u8]) -> bool {
    let Ok(expression) = Expression::compile(source, &NAMES) else {
        return false;
    };
    let variables = |place: usize, budget: &Budget<'_>| match place {
        0 => Value::text_or_bytes(Some(value), budget),
        1 => Value::named([(&b"a"[..], Some(&b"1"[..]))].into_iter(), budget),
        _ => Ok(Value::Int(7)),
    };
    let budget = Budget::new(&|| false);
    let began = Instant::now();
    let given = expression.evaluate(&variables, &budget);
    if let Err(error) = given {
        assert!(error.to_string().len() < 200, "{source}: {error}");
    }
    assert!(
        budget.spent() <= COST && budget.made() <= MEMORY,
        "{source}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{source}: {:?}",
        began.elapsed()
    );
    true
}

#[test]
fn whatever_is_written_ends_within_its_bounds() {
    let large = format!("[{}1]", "1,".repeat(50_000));
    let values = [
        &b""[..],
        b"\xff\xfe",
        br#"{"a": [1, 2], "n": "text"}"#,
        large.as_bytes(),
    ];
    let mut chance = Chance(0x5eed);
    let mut compiled = 0;
    for round in 0..3000 {
        // An `x` outside of a comprehension is unknown: each is in one.
        let source = format!("[1, 'a'].map(x, {})", chance.expression(1 + round % 5));
        compiled += usize::from(evaluate(&source, values[round % values.len()]));
        let rubbish = chance.rubbish();
        evaluate(&rubbish, values[round % values.len()]);
        // Cut and joined anywhere.
        let cut = source.floor_char_boundary(chance.below(source.len() + 1));
        evaluate(&source[..cut], b"1");
        evaluate(&format!("{}{rubbish}", &source[..cut]), b"1");
    }
    assert!(compiled > 1500, "{compiled}");
}
