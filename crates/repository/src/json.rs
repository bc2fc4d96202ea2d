//! Long lists in JSON, read element by element: a text is never held as structures as a whole.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// Visits the elements of the lists that the text, an object, has under `fields`: the number of the field, and the
/// element. A list may be `null`; what else the object has is ignored. Returns which of the fields there were.
/// `name` is for the error.
pub(crate) fn visit_lists<'t, T: Deserialize<'t>>(
    name: impl fmt::Display,
    text: &'t [u8],
    fields: &[&str],
    visit: &mut dyn FnMut(usize, T) -> Result<()>,
) -> Result<Vec<bool>> {
    let mut lists = Lists { fields, seen: vec![false; fields.len()], visit, failure: None };
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = (&mut lists).deserialize(&mut json).and_then(|()| json.end());
    match (lists.failure, parsed) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(lists.seen),
        (None, Err(e)) => Err(Error::damaged(name, e)),
    }
}

struct Lists<'v, T> {
    fields: &'v [&'v str],
    seen: Vec<bool>,
    visit: &'v mut dyn FnMut(usize, T) -> Result<()>,
    /// Why the visitor stopped.
    failure: Option<Error>,
}

impl<'t, T: Deserialize<'t>> DeserializeSeed<'t> for &mut Lists<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t, T: Deserialize<'t>> Visitor<'t> for &mut Lists<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match self.fields.iter().position(|field| *field == key) {
                Some(number) => {
                    self.seen[number] = true;
                    map.next_value_seed(List { lists: &mut *self, number, element: PhantomData })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct List<'l, 'v, T> {
    lists: &'l mut Lists<'v, T>,
    number: usize,
    element: PhantomData<T>,
}

impl<'t, T: Deserialize<'t>> DeserializeSeed<'t> for List<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'t, T: Deserialize<'t>> Visitor<'t> for List<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            if let Err(failure) = (self.lists.visit)(self.number, element) {
                self.lists.failure = Some(failure);
                return Err(de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
