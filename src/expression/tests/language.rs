//! What the language says: expressions with what they give, in the groups of CEL's specification.

use super::super::Reason;
use super::{fails, over, refused};

fn give(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        match over(
            source,
            br#"{"items": [{"id": 1}, {"id": 3}], "n": 5, "big": 18446744073709551615}"#,
        ) {
            Ok(given) => assert_eq!(given, *expected, "{source}"),
            Err(error) => panic!("{source} fails: {error}"),
        }
    }
}

#[test]
fn literals() {
    give(&[
        ("0", "0"),
        ("42", "42"),
        ("0x2A", "42"),
        ("-0x2a", "-42"),
        ("42u", "42u"),
        ("0xFFU", "255u"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551615u", "18446744073709551615u"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("1e3", "1000.0"),
        ("1.5E-1", "0.15"),
        ("-2.5e+1", "-25.0"),
        ("true", "true"),
        ("null", "null"),
        ("''", "''"),
        ("\"a'b\"", "'a'b'"),
        ("'a\"b'", "'a\"b'"),
        (r"'\n\t\\\''", "'\n\t\\''"),
        (r"'\x41\u00e9\U0001F600\101'", "'Aé😀A'"),
        (r"r'\n'", r"'\n'"),
        (r#"R"\x4""#, r"'\x4'"),
        ("'''a'b\nc'''", "'a'b\nc'"),
        ("\"\"\"a\"b\"\"\"", "'a\"b'"),
        (r"r'''\'''", r"'\'"),
        ("b'abc'", "b[97, 98, 99]"),
        (r"b'\xff\000\377'", "b[255, 0, 255]"),
        ("b'é'", "b[195, 169]"),
        (r"br'\x'", "b[92, 120]"),
        (r"rb'\x'", "b[92, 120]"),
        ("[]", "[]"),
        ("[1, 'a', null,]", "[1, 'a', null]"),
        ("{}", "{}"),
        ("{'b': 1, 'a': 2u,}", "{'a': 2u, 'b': 1}"),
        ("{1: 'x', true: 'y'}", "{true: 'y', 1: 'x'}"),
        ("1 // a comment\n + 1", "2"),
        ("// first\n1", "1"),
        ("(((1)))", "1"),
    ]);
}

#[test]
fn arithmetic() {
    give(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("7 - 2 - 1", "4"),
        ("1 -1", "0"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7u / 2u", "3u"),
        ("7u % 2u", "1u"),
        ("2.0 * 1.5", "3.0"),
        ("1.0 / 0.0", "inf"),
        ("-(1)", "-1"),
        ("--1", "1"),
        ("- -1", "1"),
        ("-(2.5)", "-2.5"),
        ("'a' + 'b' + 'c'", "'abc'"),
        ("b'a' + b'b'", "b[97, 98]"),
        ("[1] + [2, 3]", "[1, 2, 3]"),
        ("1 + 2u", "3"),
        ("3u - 5", "-2"),
        ("18446744073709551615u - 1", "18446744073709551614u"),
        ("number * 6", "42"),
    ]);
    for source in [
        "9223372036854775807 + 1",
        "-9223372036854775808 - 1",
        "9223372036854775807 * 2",
        "-(-9223372036854775808)",
        "-9223372036854775808 / -1",
        "-9223372036854775808 % -1",
        "1u - 2u",
        "18446744073709551615u + 1u",
        "18446744073709551615u * 18446744073709551615u",
    ] {
        assert!(
            matches!(fails(source, b""), Reason::Overflow(_)),
            "{source}"
        );
    }
    for source in ["1 / 0", "1 % 0", "1u / 0u", "1u % 0u"] {
        assert!(matches!(fails(source, b""), Reason::ByZero(_)), "{source}");
    }
    for source in [
        "1 + 'a'",
        "'a' - 'b'",
        "1 + 1.0",
        "5.0 % 2.0",
        "null + null",
        "[1] + 1",
        "true * true",
        "'a' + b'a'",
    ] {
        assert!(
            matches!(fails(source, b""), Reason::NoOverloads(..)),
            "{source}"
        );
    }
    for source in ["-'a'", "!1", "-1u", "1 ? 2 : 3", "-null", "!null"] {
        assert!(
            matches!(fails(source, b""), Reason::NoOverload(..)),
            "{source}"
        );
    }
}

#[test]
fn equality_and_order() {
    let holds = [
        "1 == 1",
        "1 != 2",
        "1 == 1u",
        "1 == 1.0",
        "1u == 1.0",
        "1.0 != 1.5",
        "1 != '1'",
        "null == null",
        "null != 1",
        "null != false",
        "'a' == 'a'",
        "b'a' == b'a'",
        "b'a' != 'a'",
        "[1, 2] == [1u, 2.0]",
        "[1] != [1, 2]",
        "[[1]] == [[1]]",
        "{'a': 1} == {'a': 1.0}",
        "{'a': 1} != {'a': 2}",
        "{'a': 1} != {'b': 1}",
        "{1: 2} == {1u: 2}",
        "type(1) == int",
        "type(1u) == uint",
        "type(1.0) == double",
        "type('') == string",
        "type(b'') == bytes",
        "type(true) == bool",
        "type(null) == null_type",
        "type([]) == list",
        "type({}) == map",
        "type(int) == type",
        "type(1) != type(1u)",
        "9223372036854775807 < 9223372036854775808.0",
        "9223372036854775807 != 9223372036854775807.0",
        "-1 < 0u",
        "18446744073709551615u > -1",
        "18446744073709551615u < 1.0e30",
        "-1 > -1.5",
        "1 < 1.5",
        "2 > 1.5",
        "1.5 < 2u",
        "-1.5 < -1",
        "'a' < 'b'",
        "'a' <= 'a'",
        "'Z' < 'a'",
        "'' < 'a'",
        "b'a' < b'b'",
        "false < true",
        "1 >= 1",
        "2u >= 1u",
        "0.0 == -0.0",
        "!(0.0 / 0.0 == 0.0 / 0.0)",
        "0.0 / 0.0 != 0.0 / 0.0",
        "!(0.0 / 0.0 < 1)",
        "!(1 < 0.0 / 0.0)",
        "1 < 1.0 / 0.0",
        "1 > -1.0 / 0.0",
        "1 < 2 == true",
        "dyn(1) == 1u",
    ];
    for source in holds {
        assert_eq!(over(source, b"").as_deref(), Ok("true"), "{source}");
    }
    for source in [
        "1 < 'a'",
        "null < null",
        "[1] < [2]",
        "{} < {}",
        "true < 1",
        "'a' < b'a'",
        "type(1) < type(2)",
    ] {
        assert!(
            matches!(fails(source, b""), Reason::NoOverloads(..)),
            "{source}"
        );
    }
}

#[test]
fn logic_takes_an_error_only_where_nothing_decides() {
    give(&[
        ("true && true", "true"),
        ("true && false", "false"),
        ("false || true", "true"),
        ("false || false", "false"),
        ("!true", "false"),
        ("!!true", "true"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 && false", "false"),
        ("true || 1 / 0 == 1", "true"),
        ("1 / 0 == 1 || true", "true"),
        ("1 && false", "false"),
        ("'x' || true", "true"),
        ("true && true && false && 1 / 0 == 1", "false"),
        ("true ? 1 : 1 / 0", "1"),
        ("false ? 1 / 0 : 2", "2"),
        ("true ? (false ? 1 : 2) : 3", "2"),
        ("false ? 1 : true ? 2 : 3", "2"),
        ("false || true && false", "false"),
        ("true || true && false", "true"),
    ]);
    assert_eq!(fails("true && 1 / 0 == 1", b""), Reason::ByZero("/"));
    assert_eq!(fails("1 / 0 == 1 || false", b""), Reason::ByZero("/"));
    assert_eq!(fails("1 && true", b""), Reason::NoOverload("&&", "int"));
    assert_eq!(
        fails("null || false", b""),
        Reason::NoOverload("||", "null_type")
    );
    assert_eq!(fails("1 / 0 > 0 ? 1 : 2", b""), Reason::ByZero("/"));
}

#[test]
fn comprehensions_know_their_variables() {
    give(&[
        ("[1,2].exists(x, x == 1)", "true"),
        ("[1,2].exists(x, x == 3)", "false"),
        ("json(value).items.exists(i, i.id == 3)", "true"),
        ("json(value).items.exists(i, i.id == 4)", "false"),
        ("json(value).items.all(i, i.id > 0)", "true"),
        ("json(value).items.map(i, i.id)", "[1, 3]"),
        ("json(value).items.map(i, i.id > 1, i.id * 2)", "[6]"),
        ("json(value).items.filter(i, i.id > 1).size()", "1"),
        ("[1,2,3].all(x, x > 0)", "true"),
        ("[1,2,3].all(x, x > 1)", "false"),
        ("[].all(x, x)", "true"),
        ("[].exists(x, x)", "false"),
        ("[1,2,2].exists_one(x, x == 1)", "true"),
        ("[1,2,2].exists_one(x, x == 2)", "false"),
        ("[1,2,2].existsOne(x, x == 1)", "true"),
        ("[1, 2].all (x, x > 0)", "true"),
        ("[1,2,3].map(x, x * x)", "[1, 4, 9]"),
        ("[1,2,3].filter(x, x % 2 == 1)", "[1, 3]"),
        ("{'a': 1, 'b': 2}.map(k, k)", "['a', 'b']"),
        ("{'a': 1, 'b': 2}.filter(k, k != 'a')", "['b']"),
        ("{1u: 'a'}.all(k, type(k) == uint)", "true"),
        ("{'a': 1}.exists(k, k == 'a')", "true"),
        ("[[1, 2], [3]].map(x, x.map(y, y + 1))", "[[2, 3], [4]]"),
        ("[[1, 2], [3]].map(x, x.map(x, x + 1))", "[[2, 3], [4]]"),
        (
            "[1, 2].map(x, [10, 20].map(y, x * y))",
            "[[10, 20], [20, 40]]",
        ),
        ("[1].map(value, value + 1)", "[2]"),
        ("[1].map(headers, value.size() > headers)", "[true]"),
        ("[1, 0].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0, 2].all(x, 1 / x == 1)", "false"),
        ("[1, 2].map(x, x).map(x, x).exists(x, x == 2)", "true"),
        ("[1, 2].exists(int, int == 2)", "true"),
    ]);
    for source in [
        "[0, 2].exists(x, 1 / x == 1)",
        "[0, 1].all(x, 1 / x == 1)",
        "[0].map(x, 1 / x)",
        "[0, 1].exists_one(x, 1 / x == 1)",
    ] {
        assert_eq!(fails(source, b""), Reason::ByZero("/"), "{source}");
    }
    assert!(matches!(
        fails("[1].all(x, x)", b""),
        Reason::NoOverload("all", "int")
    ));
    assert!(matches!(
        fails("1.0.map(x, x)", b""),
        Reason::NoOverload(_, "double")
    ));
    for (source, expected) in [
        ("[1].all(x, y)", "a record has no `y`"),
        ("[1].all(x, x) && x", "a record has no `x`"),
        ("[x].all(x, x)", "a record has no `x`"),
        ("[1].all(x)", "`)` where `,` must be"),
        ("[1].all(x, true, true)", "wrong number of arguments"),
        ("[1].map(x, true, x, x)", "wrong number of arguments"),
        ("[1].all(1, true)", "the variable of `all`"),
        ("[1].all(x.y, true)", "`.` where `,` must be"),
        ("[1].all(in, true)", "the variable of `all`"),
    ] {
        let message = refused(source);
        assert!(message.contains(expected), "{source}: {message}");
    }
}

#[test]
fn fields_elements_and_keys() {
    give(&[
        ("[1, 2][0]", "1"),
        ("[1, 2][1u]", "2"),
        ("[1, 2][1.0]", "2"),
        ("{'a': 1}['a']", "1"),
        ("{'a': {'b': 2}}.a.b", "2"),
        ("{'a-b': 1}.`a-b`", "1"),
        ("{1: 'x'}[1u]", "'x'"),
        ("{1u: 'x'}[1]", "'x'"),
        ("{1: 'x'}[1.0]", "'x'"),
        ("{true: 'x'}[true]", "'x'"),
        ("'a' in {'a': 1}", "true"),
        ("'b' in {'a': 1}", "false"),
        ("1.5 in {1: 1}", "false"),
        ("1 in [1, 2]", "true"),
        ("1u in [1, 2]", "true"),
        ("'a' in ['b']", "false"),
        ("null in [null]", "true"),
        ("has({'a': 1}.a)", "true"),
        ("has({'a': null}.a)", "true"),
        ("has({'a': 1}.b)", "false"),
        ("has(headers.kind)", "true"),
        ("headers.kind", "'refund'"),
        ("headers[b'\\xff\\xfe']", "'first'"),
        ("headers[b'\\xff\\xfd']", "'second'"),
        ("b'\\xff\\xfc' in headers", "false"),
        ("size(headers)", "3"),
        ("json(value).n", "5"),
        ("json(value)['n'] > 4.5", "true"),
        ("json(value).big == 18446744073709551615u", "true"),
        ("{'a': 1}.?a", "some(1)"),
        ("{'a': 1}.?b", "none"),
        ("{'a': {'b': 1}}.?a.b", "some(1)"),
        ("{'a': {}}.?a.?b.c.orValue(7)", "7"),
        ("[1][?0]", "some(1)"),
        ("[1][?5].hasValue()", "false"),
        ("{'a': 1}[?'a'].value()", "1"),
        ("optional.none().orValue(1)", "1"),
        ("optional.of(2).or(optional.of(3)).value()", "2"),
        ("optional.none().or(optional.of(3))", "some(3)"),
        ("optional.ofNonZeroValue(0)", "none"),
        ("[1, ?optional.none(), ?optional.of(2)]", "[1, 2]"),
        ("{?'a': optional.none(), ?'b': optional.of(1)}", "{'b': 1}"),
    ]);
    for (source, expected) in [
        ("[1][1]", Reason::NoSuchIndex),
        ("[1][-1]", Reason::NoSuchIndex),
        ("[1][0.5]", Reason::NoSuchIndex),
        ("{'a': 1}.b", Reason::NoSuchKey),
        ("{'a': 1}['b']", Reason::NoSuchKey),
        ("{1: 1}[1.5]", Reason::NoSuchKey),
        ("{'a': 1, 'a': 2}", Reason::KeyTwice),
        ("{1: 1, 1u: 2}", Reason::KeyTwice),
        ("{1.0: 1}", Reason::NoKey("double")),
        ("{null: 1}", Reason::NoKey("null_type")),
        ("{[1]: 1}", Reason::NoKey("list")),
        ("[1]['a']", Reason::NoOverloads("[]", "list", "string")),
        ("'abc'[0]", Reason::NoOverloads("[]", "string", "int")),
        ("'abc'.b", Reason::NoOverload(".", "string")),
        ("null.b", Reason::NoOverload(".", "null_type")),
        (
            "'a' in 'abc'",
            Reason::NoOverloads("in", "string", "string"),
        ),
        ("optional.none().value()", Reason::NoValue),
    ] {
        assert_eq!(fails(source, b""), expected, "{source}");
    }
}

#[test]
fn texts() {
    give(&[
        ("size('πέντε')", "5"),
        ("'πέντε'.size()", "5"),
        ("size(b'abc')", "3"),
        ("size([1, 2])", "2"),
        ("size({'a': 1})", "1"),
        ("'abc'.contains('b')", "true"),
        ("'abc'.contains('')", "true"),
        ("'abc'.contains('x')", "false"),
        ("'abc'.startsWith('ab')", "true"),
        ("'abc'.startsWith('bc')", "false"),
        ("'abc'.endsWith('bc')", "true"),
        ("'abc'.endsWith('abcd')", "false"),
        ("'abc'.matches('^a.c$')", "true"),
        ("'xabcx'.matches('abc')", "true"),
        ("matches('abc', '^b')", "false"),
        ("'ABC'.matches('(?i)abc')", "true"),
        ("'é'.matches(r'^\\w$')", "true"),
        ("'abc'.matches('a' + '.c')", "true"),
        ("['^a', '^b'].exists(p, 'bc'.matches(p))", "true"),
    ]);
    assert_eq!(fails("'abc'.matches('(' + 'a')", b""), Reason::Pattern);
    assert_eq!(
        fails("(1).contains('a')", b"").to_string(),
        "`contains` does not take int and string"
    );
    assert_eq!(
        fails("null.matches('a')", b""),
        Reason::NoOverloads("matches", "null_type", "string")
    );
    assert!(matches!(
        fails("size(1)", b""),
        Reason::NoOverload("size", "int")
    ));
    assert!(refused("'a'.matches('(')").contains("1:4: the pattern is invalid"));
}

#[test]
fn conversions() {
    give(&[
        ("int('42')", "42"),
        ("int('-7')", "-7"),
        ("int(42u)", "42"),
        ("int(1.9)", "1"),
        ("int(-1.9)", "-1"),
        ("uint('42')", "42u"),
        ("uint(42)", "42u"),
        ("uint(1.9)", "1u"),
        ("double('1.5')", "1.5"),
        ("double(1)", "1.0"),
        ("double(1u)", "1.0"),
        ("string(1)", "'1'"),
        ("string(-1)", "'-1'"),
        ("string(1u)", "'1'"),
        ("string(1.5)", "'1.5'"),
        ("string(true)", "'true'"),
        ("string('a')", "'a'"),
        ("string(b'abc')", "'abc'"),
        ("bytes('é')", "b[195, 169]"),
        ("bytes(b'a')", "b[97]"),
        ("bool('true')", "true"),
        ("bool('f')", "false"),
        ("bool(true)", "true"),
        ("dyn('a')", "'a'"),
        ("type(type(1))", "type"),
    ]);
    for source in [
        "int('x')",
        "int('')",
        "int(9223372036854775808u)",
        "int(1e19)",
        "int(0.0 / 0.0)",
        "uint(-1)",
        "uint('-1')",
        "uint(-1.5)",
        "double('x')",
        "bool('maybe')",
        "string(b'\\xff')",
    ] {
        assert!(
            matches!(fails(source, b""), Reason::Conversion(..)),
            "{source}"
        );
    }
    for source in [
        "int(null)",
        "int([])",
        "uint(true)",
        "double(b'')",
        "string([])",
        "string(null)",
        "bytes(1)",
        "bool(1)",
    ] {
        assert!(
            matches!(fails(source, b""), Reason::NoOverload(..)),
            "{source}"
        );
    }
}

#[test]
fn json_gives_values() {
    for (text, expected) in [
        ("1", "1"),
        ("-1", "-1"),
        ("9223372036854775808", "9223372036854775808u"),
        ("1.5", "1.5"),
        ("1e2", "100.0"),
        ("true", "true"),
        ("null", "null"),
        (r#""a\nb""#, "'a\nb'"),
        ("[1, [2, []]]", "[1, [2, []]]"),
        (
            r#"{"b": 1, "a": {"\u0063": null}}"#,
            "{'a': {'c': null}, 'b': 1}",
        ),
        (r#"{"a": 1, "a": 2}"#, "{'a': 2}"),
    ] {
        assert_eq!(
            over("json(value)", text.as_bytes()).as_deref(),
            Ok(expected),
            "{text}"
        );
        let made = over("json('' + value)", text.as_bytes());
        assert_eq!(made.as_deref(), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("", (1, 0)),
        ("{\"secret\": x}", (1, 12)),
        ("1 2", (1, 3)),
        ("\n[1,]", (2, 4)),
    ] {
        assert_eq!(
            fails("json(value)", text.as_bytes()),
            Reason::Json(expected.0, expected.1),
            "{text}"
        );
    }
    assert!(matches!(
        fails("json(value)", "[".repeat(500).as_bytes()),
        Reason::Json(..)
    ));
    assert_eq!(fails("json(1)", b""), Reason::NoOverload("json", "int"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (source, expected) in [
        ("", "wrong at 1:1: the end where a value must be"),
        (
            "value.contains(",
            "wrong at 1:16: the end where a value must be",
        ),
        ("1 +", "wrong at 1:4"),
        ("1\n+\n  * 2", "wrong at 3:3: `*` where a value must be"),
        ("valu == 'x'", "wrong at 1:1: a record has no `valu`"),
        (
            "1 2",
            "wrong at 1:3: a literal where an operator, or the end must be",
        ),
        ("a = 1", "a record has no `a`"),
        ("1 = 1", "wrong at 1:3: `=` where"),
        ("1 & 1", "wrong at 1:3: `&` where"),
        ("1 # 1", "`#` is not expected"),
        ("'abc", "a text does not end"),
        ("'a\nb'", "a text does not end"),
        (r"'\q'", "wrong at 1:2: this is no escape"),
        (r"'\ud800'", "no escape"),
        (r"b'\u0041'", "no escape"),
        (r"'\400'", "no escape"),
        ("9223372036854775808", "too large for an int"),
        ("18446744073709551616u", "too large"),
        ("0x", "too large, or none"),
        ("1x", "a number is followed by letters"),
        ("(1", "the end where `)` must be"),
        ("[1, 2", "the end where `]` must be"),
        ("{'a' 1}", "a literal where `:` must be"),
        ("{'a': 1", "the end where `}` must be"),
        ("true ? 1", "the end where `:` must be"),
        ("nothing(1)", "there is no function `nothing`"),
        ("value.nothing()", "there is no method `nothing`"),
        ("contains(value, 'a')", "there is no function `contains`"),
        ("value.json()", "there is no method `json`"),
        ("size(1, 2)", "`size` has the wrong number of arguments"),
        (
            "value.contains()",
            "`contains` has the wrong number of arguments",
        ),
        ("has(value)", "`has` takes a field"),
        ("has(headers['kind'])", "`has` takes a field"),
        ("for", "`for` is a reserved word"),
        ("value.", "the end where a name must be"),
        ("value.1", "where"),
        ("headers.``", "a name in backticks does not end"),
        ("optional.all(1)", "there is no function `optional.all`"),
        ("Message{a: 1}", "a record has no `Message`"),
    ] {
        let message = refused(source);
        assert!(message.contains(expected), "{source}: {message}");
    }
}
