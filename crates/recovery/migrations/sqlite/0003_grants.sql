-- What is kept like a token but is none: codes and refresh tokens of the OAuth log-in.
ALTER TABLE tokens ADD COLUMN purpose TEXT NOT NULL DEFAULT 'access';   -- 'access', 'code', 'refresh'
ALTER TABLE tokens ADD COLUMN facts TEXT NOT NULL DEFAULT '';           -- what a code or refresh token is bound to
