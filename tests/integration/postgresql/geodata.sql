-- Run in the database `gis`.
CREATE EXTENSION postgis;
CREATE EXTENSION postgis_raster;
CREATE EXTENSION postgis_topology;
INSERT INTO spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text) VALUES (990001, 'ours', 1, 'LOCAL_CS["ours"]', '+proj=longlat');
CREATE TABLE places (id serial PRIMARY KEY, name text, at geometry(Point, 4326), area geography(Polygon, 4326), tall geometry(PointZM));
INSERT INTO places (name, at, area, tall)
    SELECT 'place ' || i, ST_SetSRID(ST_MakePoint(i % 180, i % 90), 4326), ST_Buffer(ST_MakePoint(i % 90, i % 45)::geography, 1000),
        ST_MakePoint(i, i / 3.0, -i, 1e-9)
    FROM generate_series(1, 2000) i;
CREATE INDEX ON places USING gist (at);
CREATE TABLE tiles (id int PRIMARY KEY, rast raster);
INSERT INTO tiles VALUES (1, ST_AddBand(ST_MakeEmptyRaster(100, 100, 0, 0, 1, -1, 0, 0, 4326), '8BUI'::text, 7, 255));
SELECT AddRasterConstraints('tiles', 'rast');
SELECT CreateTopology('town', 4326);
SELECT TopoGeo_AddLineString('town', 'SRID=4326;LINESTRING(0 0, 1 1, 2 0)');
CREATE TABLE streets (id serial PRIMARY KEY, name text);
SELECT AddTopoGeometryColumn('town', 'public', 'streets', 'course', 'LINE');
INSERT INTO streets (name, course) VALUES ('main', toTopoGeom('SRID=4326;LINESTRING(0 0, 1 1)'::geometry, 'town', 1));
CREATE MATERIALIZED VIEW hulls AS SELECT ST_ConvexHull(ST_Collect(at)) AS hull FROM places;
GRANT SELECT ON places TO surveyor;
ALTER TABLE streets OWNER TO surveyor;
