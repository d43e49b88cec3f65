//! What an expression cannot take, however it is written.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::super::{
    ALL_PATTERNS, Budget, DEPTH, Expression, LONGEST, MEMORY, NESTING, NODES, Reason, Value,
};
use super::{NAMES, fails, over, refused};

/// Runs on a stack that is smaller than that of any thread of the daemon.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_tree_that_is_too_deep_is_refused_however_it_is_written() {
    on_a_small_stack(|| {
        let joined = |part: &str, by: &str| vec![part; 4000 / (part.len() + by.len())].join(by);
        let sources = [
            format!("{} > 0", joined("1", "+")),
            joined("1", "=="),
            joined("1", "<"),
            joined("1", "*"),
            joined("1", " in "),
            format!("value{}", "[0]".repeat(1300)),
            format!("value{}", ".a".repeat(2000)),
            format!("value{}", ".?a".repeat(1300)),
            format!("value{}", ".size()".repeat(500)),
            format!("{}true", "!".repeat(4000)),
            format!("{}1", "-".repeat(4000)),
            format!("{}1{}", "(".repeat(2000), ")".repeat(2000)),
            format!("{}1{}", "[".repeat(2000), "]".repeat(2000)),
            format!("{}1{}", "{1:".repeat(1000), "}".repeat(1000)),
            format!("{}1", "true?1:".repeat(500)),
            format!("{}1", "true?".repeat(500)),
            format!("{}1{}", "size(".repeat(600), ")".repeat(600)),
            format!("{}1", "[1].map(x,".repeat(300)),
            format!("{}1{}", "[1].map(x,".repeat(300), ")".repeat(300)),
            format!("{}1{}", "has(headers.".repeat(300), ")".repeat(300)),
            "(".repeat(4096),
            "[".repeat(4096),
            "{".repeat(4096),
            "-".repeat(4096),
        ];
        for source in &sources {
            assert!(source.len() <= LONGEST, "{source:.20}");
            let message = refused(source);
            let is_bounded = message.contains("too deep") || message.contains("must be");
            assert!(is_bounded && message.len() < 200, "{source:.20}: {message}");
        }
        for (source, most) in [
            (&sources[0], "100 operators"),
            (&sources[11], "32 brackets"),
        ] {
            let message = refused(source);
            assert!(message.contains(most), "{message}");
        }
    });
}

#[test]
fn what_is_as_deep_as_allowed_is_evaluated_and_dropped() {
    on_a_small_stack(|| {
        let deepest = NESTING - 1;
        for source in [
            vec!["1"; DEPTH].join("+"),
            format!("{}1{}", "(".repeat(deepest), ")".repeat(deepest)),
            format!(
                "size({}1{})",
                "[".repeat(deepest - 1),
                "]".repeat(deepest - 1)
            ),
            format!("{}true", "!".repeat(deepest)),
            format!("{}1", "false?1:".repeat(DEPTH - 1)),
            format!(
                "{}[1]{}",
                "[1].map(x,".repeat(deepest - 1),
                ")".repeat(deepest - 1)
            ),
            format!(
                "{0}=={0}",
                format!("{}1{}", "[".repeat(deepest - 1), "]".repeat(deepest - 1))
            ),
        ] {
            over(&source, b"").unwrap();
        }
        let json = format!("{}1{}", "[".repeat(120), "]".repeat(120));
        over("json(value) == json(value + '')", json.as_bytes()).unwrap();
    });
}

#[test]
fn chains_of_and_and_or_may_be_long() {
    let source = vec!["number == 1"; 290].join("||");
    assert_eq!(over(&source, b"").as_deref(), Ok("false"));
    let source = vec!["true"; 680].join("&&");
    assert_eq!(over(&source, b"").as_deref(), Ok("true"));
}

#[test]
fn a_source_has_a_bounded_length_and_number_of_parts() {
    let message = refused(&"1+".repeat(3000));
    assert_eq!(
        message,
        "the expression has 6000 bytes, and 4096 are the most"
    );
    let message = refused(&format!("[{}]", vec!["1"; NODES + 1].join(",")));
    assert!(message.contains("more than 2000 parts"), "{message}");
    let pattern = "'a'.matches(r'\\w+')";
    let message = refused(&[pattern; 1 + ALL_PATTERNS / (64 << 10)].join("||"));
    assert!(
        message.contains("its patterns take more than 2 MiB"),
        "{message}"
    );
    for pattern in ["(a{1000}){1000}", r"(\w{100}){100}", "[a-z]{100000}"] {
        let message = refused(&format!("value.matches(r'{pattern}')"));
        assert!(message.contains("takes more than 1 MiB"), "{message}");
    }
}

#[test]
fn to_make_a_number_of_a_long_text_takes_steps() {
    let zeros = vec![b'0'; 1 << 20];
    let elements = vec!["1"; 900].join(",");
    for number in ["int(value) == 0", "uint(value) == 0u"] {
        assert_eq!(over(number, &zeros).as_deref(), Ok("true"));
        let often = format!("[{elements}].all(x, {number})");
        assert_eq!(fails(&often, &zeros), Reason::Cost, "{number}");
    }
}

#[test]
fn values_that_swell_are_refused_before_they_are_made() {
    let value = vec![b'x'; 900_000];
    let ones = vec!["1"; 900].join(",");
    let swelling = [
        format!("size([{ones}].map(a, value+value+value+value)) > 0"),
        format!("size([{ones}].map(a, [{}])) > 0", vec!["a"; 400].join(",")),
        "[1].map(a, value+value+value+value+value+value+value+value+value+value+value)".to_owned(),
        format!("{}.exists(a, a == '')", vec!["[value+value]"; 30].join("+")),
    ];
    for source in &swelling {
        let began = Instant::now();
        let reason = fails(source, &value);
        assert!(
            [Reason::Memory, Reason::Cost].contains(&reason),
            "{source:.40}: {reason}"
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{source:.40}");
    }
    // Nothing hides it.
    let hidden = format!("{} || true", swelling[0]);
    assert_eq!(fails(&hidden, &value), Reason::Memory);
}

#[test]
fn json_takes_no_more_than_the_budget() {
    let numbers = format!("[{}1]", "1,".repeat(5_000_000));
    assert_eq!(
        fails("size(json(value)) > 0", numbers.as_bytes()),
        Reason::Memory
    );
    let objects = format!("[{}1]", "{\"a\":[]},".repeat(1_000_000));
    assert_eq!(
        fails("json(value) == 1", objects.as_bytes()),
        Reason::Memory
    );
    // Ten megabytes of text are parts of the record.
    let text = format!("\"{}\"", "x".repeat(10 << 20));
    assert_eq!(
        over("size(json(value)) > 0", text.as_bytes()).as_deref(),
        Ok("true")
    );
    let escaped = format!("\"{}\"", "\\n".repeat(5 << 20));
    assert_eq!(
        fails("size(json(value)) > 0", escaped.as_bytes()),
        Reason::Memory
    );
}

#[test]
fn loops_within_loops_end() {
    let ones = vec!["1"; 900].join(",");
    let twice = format!("[{ones}].all(a, [{ones}].all(b, a == b))");
    let began = Instant::now();
    // One that is short enough is done, and one that is not is refused: both are bounded.
    let given = over(&twice, b"");
    assert!(given.is_ok() || given.is_err_and(|error| error.reason == Reason::Cost));
    let three = "[0,1,2,3,4,5,6,7,8,9]";
    let deep = (0..8).fold("true".to_owned(), |inner, n| {
        format!("{three}.all (x{n}, {inner})")
    });
    assert_eq!(fails(&deep, b""), Reason::Cost);
    let deep = deep.replace(".all (", ".existsOne(");
    assert!([Reason::Cost].contains(&fails(&deep.replace("true", "false"), b"")));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn patterns_are_charged_by_their_size() {
    let text = vec![b'a'; 12 << 20];
    assert_eq!(
        fails(r"value.matches(r'^(\w|\s)+\d$')", &text),
        Reason::Cost
    );
    let digits = r"value.matches(r'^\w+ \d{4}-\d{2}-\d{2}')";
    assert_eq!(over(digits, &text[..1 << 20]).as_deref(), Ok("false"));
    assert_eq!(
        over("value.matches('^b')", &text[..1 << 20]).as_deref(),
        Ok("false")
    );
    let ones = vec!["1"; 900].join(",");
    let computed = format!("[{ones}].all(a, !value.matches('b' + string(a)))");
    assert_eq!(fails(&computed, b"x"), Reason::Cost);
}

#[test]
fn an_evaluation_that_is_stopped_ends_at_once() {
    let three = "[0,1,2,3,4,5,6,7,8,9]";
    let deep = (0..8).fold("true".to_owned(), |inner, n| {
        format!("{three}.all(x{n}, {inner})")
    });
    let expression = Expression::compile(&deep, &NAMES).unwrap();
    let asked = Cell::new(0);
    let stops = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let budget = Budget::new(&stops);
    let error = expression
        .evaluate(&|_, _| Ok(Value::Null), &budget)
        .unwrap_err();
    assert_eq!(error.reason, Reason::Stopped);
    assert!(budget.spent() == super::super::COST, "nothing may go on");
    assert_eq!(asked.get(), 4);
}

#[test]
fn variables_are_asked_for_once_and_only_where_they_are_needed() {
    let asked = Cell::new([0; 3]);
    let variables = |place: usize, _: &Budget<'_>| {
        let mut counts = asked.get();
        counts[place] += 1;
        asked.set(counts);
        Ok(Value::Int(1))
    };
    let source = "value == 1 && value == 1 || headers == 1";
    let expression = Expression::compile(source, &NAMES).unwrap();
    let budget = Budget::new(&|| false);
    expression.evaluate(&variables, &budget).unwrap();
    assert_eq!(asked.get(), [1, 0, 0]);
}

#[test]
fn parts_of_the_record_are_not_copied() {
    let value = vec![b'x'; 1 << 20];
    for source in [
        "value",
        "[value, value]",
        "value.contains('y') ? '' : value",
        "bytes(value)",
        "string(bytes(value))",
    ] {
        let expression = Expression::compile(source, &NAMES).unwrap();
        let budget = Budget::new(&|| false);
        let variables = |_: usize, budget: &Budget<'_>| Value::text_or_bytes(Some(&value), budget);
        expression.evaluate(&variables, &budget).unwrap();
        assert!(budget.made() < 1000, "{source}: {}", budget.made());
    }
    assert!(MEMORY > value.len());
}

#[test]
fn errors_tell_types_and_places_and_never_contents() {
    let secret = br#"{"secret-0": "secret-1", "n": {"secret-2": 3}}"#;
    for source in [
        "value + 1",
        "value < 1",
        "json(value) + 1",
        "json(value)['secret-0'] + 1",
        "int(value)",
        "value.x",
        "value[0]",
        "value.matches(value + '(')",
        "json('x' + value)",
        "json(value).n > 1",
        "value ? 1 : 2",
        "value in value",
        "bool(value)",
        "{json(value): 1}",
        "json(value)[value]",
        "!value",
        "-value",
        "double(value)",
        "value.map(x, x)",
        "value && true",
    ] {
        let error = over(source, secret).unwrap_err().to_string();
        assert!(
            !error.contains("secret") && error.len() < 150,
            "{source}: {error}"
        );
        assert!(error.starts_with("at byte "), "{source}: {error}");
    }
}
