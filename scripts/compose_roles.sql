-- A role and a database for each process, with passwords of their own. PostgreSQL's image runs this with
-- psql, as the superuser, at the first start of docker-compose.yml's `db`.
\set exchange_password `cat /run/secrets/exchange_password`
\set keys_password `cat /run/secrets/keys_password`
\set queue_password `cat /run/secrets/queue_password`
CREATE ROLE assent_exchange LOGIN PASSWORD :'exchange_password';
CREATE ROLE assent_keys LOGIN PASSWORD :'keys_password';
CREATE ROLE assent_queue LOGIN PASSWORD :'queue_password';
CREATE DATABASE exchange OWNER assent_exchange;
CREATE DATABASE keys OWNER assent_keys;
CREATE DATABASE queue OWNER assent_queue;
REVOKE ALL ON DATABASE exchange, keys, queue FROM PUBLIC;
GRANT CONNECT ON DATABASE exchange TO assent_keys;
\connect exchange
ALTER DEFAULT PRIVILEGES FOR ROLE assent_exchange GRANT SELECT ON TABLES TO assent_keys;
