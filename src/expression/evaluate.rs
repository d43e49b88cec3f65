//! From a tree to its value. It goes down by the stack as deep as the tree is, which is bounded.

use std::rc::Rc;

use super::budget::Budget;
use super::error::{EvaluationError, Reason};
use super::functions::{self, maybe};
use super::operators;
use super::pattern::Pattern;
use super::tree::{Access, Binary, Comprehension, Element, Function, Kind, Node, What};
use super::value::{Key, Map, Part, Value};

type Evaluated<T> = Result<T, EvaluationError>;

/// Gives the variable of a name's place.
pub(super) type Variables<'e, 'v> = dyn Fn(usize, &Budget<'_>) -> Result<Value<'e>, Reason> + 'v;

/// One evaluation.
pub(super) struct Evaluator<'e, 'v> {
    pub budget: &'v Budget<'v>,
    pub variables: &'v Variables<'e, 'v>,
    /// Variables that were asked for already.
    pub known: Vec<Option<Value<'e>>>,
    /// Of comprehensions, from the outside.
    pub locals: Vec<Value<'e>>,
}

impl<'e> Evaluator<'e, '_> {
    /// The value of a node. Its errors say where they come from.
    pub fn value(&mut self, node: &'e Node) -> Evaluated<Value<'e>> {
        let mark = self.budget.mark();
        let stepped = self.budget.spend(1).map_err(EvaluationError::from);
        match stepped.and_then(|()| self.value_of(&node.what)) {
            Ok(value) => {
                if value.holds_nothing() {
                    self.budget.free_since(&mark);
                }
                Ok(value)
            }
            Err(error) => Err(EvaluationError {
                at: error.at.or(Some(node.at)),
                ..error
            }),
        }
    }

    fn value_of(&mut self, what: &'e What) -> Evaluated<Value<'e>> {
        Ok(match what {
            What::Null => Value::Null,
            What::Bool(holds) => Value::Bool(*holds),
            What::Int(number) => Value::Int(*number),
            What::Uint(number) => Value::Uint(*number),
            What::Double(number) => Value::Double(*number),
            What::Text(text) => Value::Text(Part::Borrowed(text)),
            What::Bytes(bytes) => Value::Bytes(Part::Borrowed(bytes)),
            What::Type(name) => Value::Type(name),
            What::Variable(place) => self.variable(*place)?,
            What::Local(place) => self.locals.get(*place).cloned().ok_or(Reason::NoSuchKey)?,
            What::Select(of, field, access) => self.select(of, field, *access)?,
            What::Has(of, field) => self.has(of, field)?,
            What::Index(of, index, access) => self.index(of, index, *access)?,
            What::List(elements) => self.list(elements)?,
            What::Map(entries) => self.map(entries)?,
            What::Not(of) => Value::Bool(!self.bool(of, "!")?),
            What::Negate(of) => self.negated(of)?,
            What::Binary(binary, one, two) => self.binary(*binary, one, two)?,
            What::All(nodes) => self.chain(nodes, "&&", false)?,
            What::Any(nodes) => self.chain(nodes, "||", true)?,
            What::Conditional(condition, yes, no) => {
                let holds = self.bool(condition, "?:")?;
                return self.value(if holds { yes } else { no });
            }
            What::Call(function, arguments) => self.call(*function, arguments)?,
            What::Matches(of, pattern) => self.matches(of, pattern)?,
            What::Comprehension(comprehension) => self.comprehension(comprehension)?,
        })
    }

    fn negated(&mut self, of: &'e Node) -> Evaluated<Value<'e>> {
        let value = self.value(of)?;
        Ok(operators::negated(&value)?)
    }

    fn binary(&mut self, binary: Binary, one: &'e Node, two: &'e Node) -> Evaluated<Value<'e>> {
        let one = self.value(one)?;
        let two = self.value(two)?;
        Ok(operators::binary(binary, &one, &two, self.budget)?)
    }

    fn matches(&mut self, of: &'e Node, pattern: &Pattern) -> Evaluated<Value<'e>> {
        match self.value(of)? {
            Value::Text(text) => Ok(Value::Bool(pattern.is_in(&text, self.budget)?)),
            other => Err(Reason::NoOverloads("matches", other.type_name(), "string").into()),
        }
    }

    fn variable(&mut self, place: usize) -> Evaluated<Value<'e>> {
        if let Some(Some(value)) = self.known.get(place) {
            return Ok(value.clone());
        }
        let mark = self.budget.mark();
        let value = (self.variables)(place, self.budget)?;
        self.budget.keep_since(&mark);
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        if let Some(known) = self.known.get_mut(place) {
            *known = Some(value.clone());
        }
        Ok(value)
    }

    fn bool(&mut self, node: &'e Node, operator: &'static str) -> Evaluated<bool> {
        match self.value(node)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Reason::NoOverload(operator, other.type_name()).into()),
        }
    }

    /// `&&` is decided by a false, `||` by a true, wherever it stands: an error counts only where nothing decides.
    fn chain(
        &mut self,
        nodes: &'e [Node],
        sign: &'static str,
        decides: bool,
    ) -> Evaluated<Value<'e>> {
        let mut failed = None;
        for node in nodes {
            match self.bool(node, sign) {
                Ok(holds) if holds == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(error) if error.reason.is_of_budget() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            None => Ok(Value::Bool(!decides)),
            Some(error) => Err(error),
        }
    }

    /// A value, and whether it comes out of an optional: then what is accessed in it is one, too.
    fn opened(&mut self, of: &'e Node) -> Evaluated<(Option<Value<'e>>, bool)> {
        Ok(match self.value(of)? {
            Value::Optional(inner) => (inner.as_deref().cloned(), true),
            value => (Some(value), false),
        })
    }

    fn select(&mut self, of: &'e Node, field: &'e str, access: Access) -> Evaluated<Value<'e>> {
        let (of, was_optional) = self.opened(of)?;
        let found = match &of {
            None => None,
            Some(Value::Map(map)) => {
                let key = Key::Text(Part::Borrowed(field));
                map.get(&key, self.budget)?.cloned()
            }
            Some(other) => return Err(Reason::NoOverload(".", other.type_name()).into()),
        };
        Ok(match was_optional || access == Access::Optional {
            true => maybe(found, self.budget)?,
            false => found.ok_or(Reason::NoSuchKey)?,
        })
    }

    fn has(&mut self, of: &'e Node, field: &'e str) -> Evaluated<Value<'e>> {
        let has = match self.opened(of)?.0 {
            None => false,
            Some(Value::Map(map)) => {
                let key = Key::Text(Part::Borrowed(field));
                map.get(&key, self.budget)?.is_some()
            }
            Some(other) => return Err(Reason::NoOverload("has", other.type_name()).into()),
        };
        Ok(Value::Bool(has))
    }

    fn index(&mut self, of: &'e Node, index: &'e Node, access: Access) -> Evaluated<Value<'e>> {
        let (of, was_optional) = self.opened(of)?;
        let index = self.value(index)?;
        let found = match of {
            None => Ok(None),
            Some(Value::List(values)) => element_at(&values, index).map(Some),
            Some(Value::Map(map)) => Key::from_value(index).and_then(|key| {
                let found = map.get(&key, self.budget)?;
                found.map_or(Err(Reason::NoSuchKey), |value| Ok(Some(value.clone())))
            }),
            Some(other) => Err(Reason::NoOverloads(
                "[]",
                other.type_name(),
                index.type_name(),
            )),
        };
        if !was_optional && access == Access::Plain {
            return Ok(found?.ok_or(Reason::NoSuchKey)?);
        }
        match found {
            Ok(found) => Ok(maybe(found, self.budget)?),
            Err(Reason::NoSuchKey | Reason::NoSuchIndex) => Ok(Value::Optional(None)),
            Err(reason) => Err(reason.into()),
        }
    }

    /// What an element gives; none where it is an empty optional that may be left out.
    fn element(&mut self, of: &'e Node, is_optional: bool) -> Evaluated<Option<Value<'e>>> {
        let value = self.value(of)?;
        match value {
            Value::Optional(inner) if is_optional => Ok(inner.as_deref().cloned()),
            other if is_optional => Err(Reason::NoOverload("?", other.type_name()).into()),
            value => Ok(Some(value)),
        }
    }

    fn list(&mut self, elements: &'e [Element<Node>]) -> Evaluated<Value<'e>> {
        let mut values = self.budget.list(elements.len())?;
        for Element { of, is_optional } in elements {
            values.extend(self.element(of, *is_optional)?);
        }
        Ok(Value::list(values, self.budget)?)
    }

    fn map(&mut self, entries: &'e [Element<(Node, Node)>]) -> Evaluated<Value<'e>> {
        let mut made = self.budget.list(entries.len())?;
        for Element { of, is_optional } in entries {
            let key = match self.value(&of.0)? {
                other @ (Value::Bytes(_) | Value::Double(_)) => {
                    return Err(Reason::NoKey(other.type_name()).into());
                }
                value => Key::from_value(value)?,
            };
            if let Some(value) = self.element(&of.1, *is_optional)? {
                made.push((key, value));
            }
        }
        let map = Map::new(made, false, self.budget)?;
        Ok(Value::map(map, self.budget)?)
    }

    fn call(&mut self, function: Function, arguments: &'e [Node]) -> Evaluated<Value<'e>> {
        match arguments {
            [] => Ok(Value::Optional(None)),
            [one] => {
                let one = self.value(one)?;
                Ok(functions::of_one(function, one, self.budget)?)
            }
            [one, two, ..] => match (function, self.value(one)?) {
                (Function::OrValue, Value::Optional(Some(inner))) => Ok(Value::clone(&inner)),
                (Function::Or, some @ Value::Optional(Some(_))) => Ok(some),
                (Function::OrValue | Function::Or, Value::Optional(None)) => self.value(two),
                (_, one) => {
                    let two = self.value(two)?;
                    Ok(functions::of_two(function, &one, &two, self.budget)?)
                }
            },
        }
    }

    /// The elements of a list, or the keys of a map.
    fn elements(&mut self, range: &'e Node) -> Evaluated<Rc<Vec<Value<'e>>>> {
        match self.value(range)? {
            Value::List(values) => Ok(values),
            Value::Map(map) => {
                let mut keys = self.budget.list(map.entries().len())?;
                self.budget.spend(map.entries().len() as u64)?;
                keys.extend(map.entries().iter().map(|(key, _)| key.to_value()));
                Ok(Rc::new(keys))
            }
            other => Err(Reason::NoOverload("a comprehension", other.type_name()).into()),
        }
    }

    fn comprehension(&mut self, comprehension: &'e Comprehension) -> Evaluated<Value<'e>> {
        let elements = self.elements(&comprehension.range)?;
        match comprehension.kind {
            Kind::All => self.quantified(comprehension, &elements, "all", false),
            Kind::Exists => self.quantified(comprehension, &elements, "exists", true),
            Kind::ExistsOne => {
                let mut count = 0_u64;
                for element in elements.iter() {
                    count += u64::from(self.holds(comprehension, element, "exists_one")?);
                }
                Ok(Value::Bool(count == 1))
            }
            Kind::Map | Kind::Filter => {
                let mut made = Vec::new();
                for element in elements.iter() {
                    if !self.holds(comprehension, element, "filter")? {
                        continue;
                    }
                    let value = match &comprehension.result {
                        Some(result) => self.with(element, |this| this.value(result))?,
                        None => element.clone(),
                    };
                    self.budget.push(&mut made, value)?;
                }
                Ok(Value::list(made, self.budget)?)
            }
        }
    }

    /// As [`Evaluator::chain`], over elements.
    fn quantified(
        &mut self,
        comprehension: &'e Comprehension,
        elements: &[Value<'e>],
        name: &'static str,
        decides: bool,
    ) -> Evaluated<Value<'e>> {
        let mut failed = None;
        for element in elements {
            match self.holds(comprehension, element, name) {
                Ok(holds) if holds == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(error) if error.reason.is_of_budget() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            None => Ok(Value::Bool(!decides)),
            Some(error) => Err(error),
        }
    }

    /// Whether an element satisfies the condition; true where there is none.
    fn holds(
        &mut self,
        comprehension: &'e Comprehension,
        element: &Value<'e>,
        name: &'static str,
    ) -> Evaluated<bool> {
        self.budget.spend(1)?;
        match &comprehension.condition {
            Some(condition) => self.with(element, |this| this.bool(condition, name)),
            None => Ok(true),
        }
    }

    fn with<T>(&mut self, element: &Value<'e>, evaluate: impl FnOnce(&mut Self) -> T) -> T {
        self.locals.push(element.clone());
        let evaluated = evaluate(self);
        self.locals.pop();
        evaluated
    }
}

/// An element of a list; a double is an index where it is a whole number.
fn element_at<'e>(values: &[Value<'e>], index: Value<'e>) -> Result<Value<'e>, Reason> {
    let name = index.type_name();
    let place = match Key::from_value(index) {
        Ok(Key::Int(place)) => usize::try_from(place).ok(),
        Ok(Key::Uint(place)) => usize::try_from(place).ok(),
        Err(Reason::NoSuchKey) => None,
        _ => return Err(Reason::NoOverloads("[]", "list", name)),
    };
    let value = place.and_then(|place| values.get(place));
    value.cloned().ok_or(Reason::NoSuchIndex)
}
