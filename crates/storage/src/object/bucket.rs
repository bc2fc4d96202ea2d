//! A bucket in this process, behind the same code as every other one. For tests.
//!
//! Faults strike its requests, so below the loop of attempts: an answer is lost, one page of a listing does not come.
//! It answers as S3 does, with few keys on a page, so that most listings take several.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::{Limits, ObjectOptions, ObjectPlace, ObjectStorage, Service, wire};
use crate::faulty::{Call, Strike};
use crate::{Fault, FaultPlan};

/// Keys on one page of a listing.
const PAGE_KEYS: usize = 7;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The bucket. Clones share what lies in it.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    objects: InMemory,
}

impl Bucket {
    /// The client of it, with no fault in its way.
    pub fn open(&self) -> ObjectStorage {
        self.open_failing(&FaultPlan::new(0, Fault::ErrorBefore), Limits::default().attempts)
    }

    /// A client whose requests fail by `plan`, and which tries each so often.
    pub fn open_failing(&self, plan: &FaultPlan, attempts: u32) -> ObjectStorage {
        let limits = Limits { attempts, ..Limits::default() };
        let place = ObjectPlace {
            service: Service::S3,
            bucket: "bucket".to_owned(),
            prefix: "in/memory".to_owned(),
            options: ObjectOptions { limits, ..ObjectOptions::default() },
        };
        let requests = Requests { objects: self.objects.clone(), plan: plan.clone() };
        ObjectStorage::with_backend(Arc::new(requests), &place)
    }
}

/// What the client asks of the bucket.
#[derive(Clone, Debug)]
struct Requests {
    objects: InMemory,
    plan: FaultPlan,
}

impl Requests {
    async fn ask<T>(&self, call: Call, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.plan.strike(call) {
            Strike::No => work.await,
            Strike::Before => Err(error("injected: no answer")),
            Strike::After => {
                work.await?;
                Err(error("injected: the answer is lost"))
            }
            Strike::Full => {
                answered(507);
                Err(error("injected: no space left"))
            }
        }
    }
}

fn error(reason: &'static str) -> Error {
    Error::Generic { store: "bucket in memory", source: reason.into() }
}

fn answered(status: u16) {
    wire::note(wire::Answer { status: Some(status), ..wire::Answer::default() });
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket in memory")
    }
}

impl ObjectStore for Requests {
    fn put_opts<'a, 'b, 'f>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'f, PutResult>
    where
        'a: 'f,
        'b: 'f,
    {
        Box::pin(self.ask(Call::Put, async move {
            let answer = self.objects.put_opts(location, payload, options).await;
            if let Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) = answer {
                answered(412);
            }
            answer
        }))
    }

    fn put_multipart_opts<'a, 'b, 'f>(
        &'a self,
        location: &'b Path,
        options: PutMultipartOptions,
    ) -> Answer<'f, Box<dyn MultipartUpload>>
    where
        'a: 'f,
        'b: 'f,
    {
        self.objects.put_multipart_opts(location, options)
    }

    fn get_opts<'a, 'b, 'f>(&'a self, location: &'b Path, options: GetOptions) -> Answer<'f, GetResult>
    where
        'a: 'f,
        'b: 'f,
    {
        Box::pin(self.ask(Call::Read, async move {
            let answer = self.objects.get_opts(location, options).await;
            if let Err(Error::Generic { .. }) = answer {
                answered(416); // the only other thing that can be wrong is the range
            }
            answer
        }))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |location: Result<Path>| {
            let this = this.clone();
            async move {
                let location = location?;
                let one = stream::iter([Ok(location.clone())]).boxed();
                let deleted = this.objects.delete_stream(one).try_collect::<Vec<_>>();
                this.ask(Call::Delete, deleted).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'f>(&'a self, prefix: Option<&'b Path>) -> Answer<'f, ListResult>
    where
        'a: 'f,
        'b: 'f,
    {
        self.objects.list_with_delimiter(prefix)
    }

    fn copy_opts<'a, 'b, 'c, 'f>(
        &'a self,
        from: &'b Path,
        to: &'c Path,
        options: CopyOptions,
    ) -> Answer<'f, ()>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
    {
        self.objects.copy_opts(from, to, options)
    }
}

impl PaginatedListStore for Requests {
    fn list_paginated<'a, 'b, 'f>(
        &'a self,
        prefix: Option<&'b str>,
        options: PaginatedListOptions,
    ) -> Answer<'f, PaginatedListResult>
    where
        'a: 'f,
        'b: 'f,
    {
        Box::pin(self.ask(Call::Read, async move {
            let (prefix, after) = (prefix.unwrap_or_default(), options.page_token.unwrap_or_default());
            let mut objects: Vec<ObjectMeta> = self.objects.list(None).try_collect().await?;
            objects.retain(|meta| {
                let key = meta.location.as_ref();
                key.starts_with(prefix) && key > after.as_str()
            });
            objects.sort_by(|a, b| a.location.cmp(&b.location));
            let more = objects.len() > PAGE_KEYS;
            objects.truncate(PAGE_KEYS);
            let page_token = objects.last().filter(|_| more).map(|meta| meta.location.to_string());
            let result = ListResult { objects, common_prefixes: Vec::new(), extensions: Default::default() };
            Ok(PaginatedListResult { result, page_token })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Shared, Storage, conformance};

    #[test]
    fn it_keeps_every_promise_of_a_storage() {
        conformance::all(&(Arc::new(Bucket::default().open()) as Shared));
    }

    #[test]
    fn one_failed_request_is_overcome_and_one_attempt_is_not_enough() {
        for fault in [Fault::ErrorBefore, Fault::ErrorAfter] {
            let bucket = Bucket::default();
            let once = |at| bucket.open_failing(&FaultPlan::new(at, fault), 1);
            let twice = |at| bucket.open_failing(&FaultPlan::new(at, fault), 2);
            twice(1).create("a", &[b"mine"]).unwrap();
            assert_eq!(once(1).get("a", 9).unwrap_err().kind, ErrorKind::Io);
            assert_eq!(twice(1).get("a", 9).unwrap(), b"mine");
            let failed = once(1).create("b", &[b"mine"]).unwrap_err();
            assert_eq!(failed.kind, ErrorKind::Io);
            assert_eq!(bucket.open().head("b").unwrap().is_some(), fault == Fault::ErrorAfter);
            twice(1).delete("a").unwrap();
            assert_eq!(bucket.open().head("a").unwrap(), None);
        }
        let full = FaultPlan::new(1, Fault::Full);
        let refused = Bucket::default().open_failing(&full, 1).create("a", &[b"x"]).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NoSpace);
    }
}
