-- So that no page walks all jobs that are kept: what became of some backups, and what jobs of one kind came to.
CREATE INDEX jobs_by_backup ON jobs (store, backup);
CREATE INDEX jobs_by_operation ON jobs (operation, status, seq);
