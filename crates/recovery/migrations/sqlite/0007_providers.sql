-- Users whom a sign-in provider vouches for: who they are there. NULL = a user with a password, of this server.
ALTER TABLE users ADD COLUMN subject TEXT;
