use serde_json::json;

use super::*;

fn gpu() -> DeviceValue {
    let device = json!({
        "name": "gpu-0", "allowMultipleAllocations": true,
        "attributes": {
            "model": {"string": "x100"}, "cores": {"int": 8}, "ecc": {"bool": true},
            "release": {"version": "1.4.0+build.7"}, "other.example.com/model": {"string": "y"},
            "links": {"strings": ["a", "b"]}, "lanes": {"ints": [1, 2, 3]}
        },
        "capacity": {"memory": {"value": "40Gi"}, "other.example.com/slots": {"value": "2"}}
    });
    DeviceValue::new("gpu.example.com", &serde_json::from_value(device).unwrap()).unwrap()
}

/// The expression about the GPU, in which `a` and `c` stand for its attributes and capacity.
fn ask(expression: &str) -> Result<bool, String> {
    let whole = expression
        .replace("@a", "device.attributes[\"gpu.example.com\"]")
        .replace("@c", "device.capacity[\"gpu.example.com\"]");
    let selector = DeviceSelector::compile(&whole).map_err(|error| error.to_string())?;
    selector.matches(&gpu()).map_err(|error| error.to_string())
}

#[test]
fn expressions_see_what_a_device_has() {
    for expression in [
        "true",
        "device.driver == 'gpu.example.com'",
        "device.allowMultipleAllocations",
        "@a.model == 'x100' && @a.cores > 4 && @a.ecc",
        "@a.ecc",
        "device.attributes['other.example.com'].model == 'y'",
        "device.attributes['nobody.example.com'] == {}",
        "!has(device.attributes['nobody.example.com'].model)",
        "'gpu.example.com' in device.attributes && !('nobody' in device.attributes)",
        "size(device.attributes) == 2",
        "device.attributes.all(domain, domain.endsWith('.example.com'))",
        "has(@a.model) && !has(@a.vendor)",
        "@a.?vendor.orValue('nobody') == 'nobody'",
        "device.attributes['nobody'].?x.orValue(1) == 1",
        "@c.memory == quantity('40Gi') && @c.memory.isGreaterThan(quantity('39Gi'))",
        "@c.memory.compareTo(quantity('40Gi')) >= 0 && @c.memory.sub(quantity('40Gi')).sign() == 0",
        "@c.memory.add(1).asInteger() == 42949672961 && quantity('500m').isInteger() == false",
        "isQuantity('1Gi') && !isQuantity('x')",
        "@a.release == semver('1.4.0') && @a.release.isGreaterThan(semver('1.4.0-rc.1'))",
        "@a.release.major() == 1 && @a.release.minor() == 4 && semver('v01.2', true).patch() == 0",
        "isSemver('1.2.3') && !isSemver('v1.2') && isSemver('v1.2', true)",
        "@a.links.includes('b') && !@a.links.includes('c') && @a.model.includes('x100')",
        "@a.lanes.exists(lane, lane == 2) && @a.lanes.all(lane, lane < 4)",
        "cel.bind(dra, device.attributes['gpu.example.com'], dra.ecc && dra.cores == 8)",
        "@a.model.lowerAscii().startsWith('x') && 'A-B'.split('-').join('+') == 'A+B'",
        "@a.model.matches('^x[0-9]+$')",
        "@a.cores in [4, 8] ? true : false",
        "['x100', 'x200'].exists(model, model == @a.model)",
        "type(@a.cores) == int",
        "optional.of(1).hasValue()",
        "false && @a.vendor == 'x' || true",
    ] {
        assert_eq!(ask(expression), Ok(true), "{expression}");
    }
}

#[test]
fn what_fails_on_a_device_is_said_in_the_words_of_cel() {
    for (expression, expected) in [
        (
            "@a.vendor == 'x'",
            "no such key: vendor. consider using CEL optional chaining (.? followed by orValue())",
        ),
        ("@a.cores > 'x'", "no such overload"),
        ("@a.cores / 0 == 1", "division by zero"),
        ("@a.cores % 0 == 1", "modulus by zero"),
        ("@a.cores * 9223372036854775807 == 1", "integer overflow"),
        ("quantity('x').isInteger()", "quantities must match the regular expression"),
        ("quantity('500m').asInteger() == 1", "cannot convert value to integer"),
        ("semver('1').major() == 1", "unexpected end of input"),
        ("@a.cores", "CEL result of type int could not be converted to bool"),
        ("@a.cores.startsWith('x')", "no such overload"),
    ] {
        let error = ask(expression).unwrap_err();
        assert!(error.contains(expected), "{expression}: {error}");
    }
    let odd = serde_json::from_value(json!({"name": "d", "attributes": {"a": {}}})).unwrap();
    let error = DeviceValue::new("x", &odd).unwrap_err().to_string();
    assert_eq!(error, "attribute a: unsupported attribute value");
}

#[test]
fn what_is_no_selector_is_refused() {
    for (expression, expected) in [
        ("", "compilation failed"),
        ("1 +", "compilation failed"),
        ("device.attributes[", "compilation failed"),
        ("node.name == 'x'", "undeclared reference to 'node'"),
        ("device.name == 'x'", "undefined field 'name'"),
        ("url('x') == 'y'", "undeclared reference to 'url'"),
        ("device.driver.isIP()", "undeclared reference to 'isIP'"),
        ("[1].all(x, y > 1)", "undeclared reference to 'y'"),
        ("cel.bind(1, 2, true)", "undeclared reference to 'bind'"),
        ("Some.Struct{a: 1}", "undeclared reference to"),
        ("'gpu'", "must evaluate to bool or the unknown type, not string"),
        ("[true]", "must evaluate to bool or the unknown type, not list(dyn)"),
    ] {
        let error = ask(expression).unwrap_err();
        assert!(error.contains(expected), "{expression}: {error}");
    }
}

#[test]
fn what_might_take_too_long_is_refused() {
    let inner = |depth: usize| {
        let list = format!("[{}]", vec!["1"; 100].join(","));
        let open: String = (0..depth).map(|at| format!("{list}.all(x{at}, ")).collect();
        format!("{open}true{}", ")".repeat(depth))
    };
    assert_eq!(ask(&inner(2)), Ok(true));
    assert_eq!(ask(&inner(4)), Err(SelectorError::TooCostly.to_string()));
    // A text that doubles with each name.
    let mut doubling = "size(x13) > 0".to_owned();
    for at in (1..14).rev() {
        doubling = format!("cel.bind(x{at}, x{0} + x{0}, {doubling})", at - 1);
    }
    assert_eq!(ask(&format!("cel.bind(x0, 'a', {doubling})")), Ok(true));
    let replaced = "'aaaaaaaaaaaaaaaa'.replace('', 'bbbbbbbbbbbbbbbb')".to_owned();
    let again = (0..4).fold(replaced, |text, _| format!("{text}.replace('', 'bbbbbbbbbbbbbbbb')"));
    assert_eq!(ask(&format!("size({again}) > 0")), Err(SelectorError::TooCostly.to_string()));
    let nested = "@a.links.all(a, @a.links.all(b, a != b || a == b))";
    assert_eq!(ask(nested), Ok(true), "loops over a device's own lists are cheap enough");
    let alternatives = vec!["@a.model == 'x200'"; 100].join(" || ");
    assert_eq!(ask(&alternatives), Ok(false));
}

/// A test's thread has the stack of a worker's.
#[test]
fn no_text_falls_over() {
    let n = 9_000;
    let deep = [
        vec!["1"; n / 2].join("+"),
        vec!["true"; n / 8].join(" && "),
        vec!["true"; n / 8].join("=="),
        format!("{}1{}", "(".repeat(n / 2), ")".repeat(n / 2)),
        format!("{}true", "!".repeat(n)),
        format!("{}true", "! ".repeat(n / 2)),
        format!("{}1", "-".repeat(n)),
        format!("{}true{}", "!(".repeat(n / 3), ")".repeat(n / 3)),
        format!("[1]{}", "[0]".repeat(n / 3)),
        format!("device{}", ".driver".repeat(n / 7)),
        format!("device{}", ".size()".repeat(n / 7)),
        format!("{}true", "true?true:".repeat(n / 10)),
        format!("{}{}", "[".repeat(n / 2), "]".repeat(n / 2)),
        format!("{}1{}", "{1:".repeat(n / 4), "}".repeat(n / 4)),
        format!("{}true{}", "[1].all(x,".repeat(n / 11), ")".repeat(n / 11)),
        format!("{}true{}", "cel.bind(x,1,".repeat(n / 14), ")".repeat(n / 14)),
        "\u{0}\"'`$$ \\ é".repeat(n / 20),
        format!("\"{}", "a".repeat(n)),
        "(".repeat(n),
        "?:".repeat(n / 2),
        "a.".repeat(n / 2),
    ];
    for text in deep {
        let _ = ask(&text);
    }
    // As deep as may be.
    for text in [
        vec!["1"; 31].join("+") + " == 31",
        format!("{}true{}", "[1].all(x,".repeat(9), ")".repeat(9)),
        format!("{}true", "true?true:".repeat(30)),
        format!("{}true{}", "[true].map(x,[".repeat(7), "])".repeat(7)) + " != []",
    ] {
        let result = ask(&text);
        assert!(
            result == Ok(true) || result == Err(SelectorError::TooDeep.to_string()),
            "{text}: {result:?}"
        );
    }
}

#[test]
fn every_function_is_declared_once() {
    let mut env = cel::Env::stdlib();
    functions::declare(&mut env).unwrap();
}
