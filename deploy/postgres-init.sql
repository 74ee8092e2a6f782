-- A role and a database for each service, made when compose starts PostgreSQL on an empty volume.
\getenv auth_password AUTH_DATABASE_PASSWORD
\getenv content_password CONTENT_DATABASE_PASSWORD
\getenv search_password SEARCH_DATABASE_PASSWORD

CREATE ROLE thmnayah_auth LOGIN PASSWORD :'auth_password';
CREATE ROLE thmnayah_content LOGIN PASSWORD :'content_password';
CREATE ROLE thmnayah_search LOGIN PASSWORD :'search_password';

CREATE DATABASE thmnayah_auth OWNER thmnayah_auth;
CREATE DATABASE thmnayah_content OWNER thmnayah_content;
CREATE DATABASE thmnayah_search OWNER thmnayah_search;

REVOKE ALL ON DATABASE thmnayah_auth, thmnayah_content, thmnayah_search FROM PUBLIC;

-- Only a superuser may add pgvector.
\connect thmnayah_search
CREATE EXTENSION IF NOT EXISTS vector;
