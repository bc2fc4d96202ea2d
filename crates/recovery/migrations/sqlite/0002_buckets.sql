-- Stores in buckets: how each is reached, and its credential.
ALTER TABLE stores ADD COLUMN connection TEXT;       -- JSON, without secrets; NULL for a directory
ALTER TABLE stores ADD COLUMN credential BLOB;       -- sealed under the master key; NULL for a directory
