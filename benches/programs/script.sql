-- Rows, an index, groups, a join and an update.
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, v REAL);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    INSERT INTO t SELECT i, 'name' || (i * 7919 % 10007), i * 0.37 FROM n;
COMMIT;
CREATE INDEX by_name ON t (name);
SELECT count(*), sum(id), avg(v) FROM t;
SELECT name, count(*) AS c, total(v) FROM t GROUP BY name ORDER BY c DESC, name LIMIT 20;
UPDATE t SET v = v * 2 WHERE id % 3 = 0;
SELECT count(*) FROM t a JOIN t b ON a.name = b.name AND a.id < b.id;
SELECT count(*) FROM t WHERE name LIKE '%77%';
DELETE FROM t WHERE id % 5 = 0;
SELECT count(*), round(sum(v), 3) FROM t;
DROP TABLE t;
