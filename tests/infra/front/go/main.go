// A client of the front through clickhouse-go, HTTP with gzip, as Grafana's ClickHouse data source opens it.
// Prints one line per check and exits with a failure when one of them does not hold.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

func open(method clickhouse.CompressionMethod) driver.Conn {
	connection, err := clickhouse.Open(&clickhouse.Options{
		Protocol:     clickhouse.HTTP,
		Addr:         []string{os.Getenv("FRONT_ADDRESS")},
		Auth:         clickhouse.Auth{Database: os.Getenv("FRONT_DATABASE"), Username: os.Getenv("FRONT_USER"), Password: os.Getenv("FRONT_PASSWORD")},
		Compression:  &clickhouse.Compression{Method: method},
		Settings:     clickhouse.Settings{"max_execution_time": 60},
		DialTimeout:  10 * time.Second,
		MaxOpenConns: 5,
	})
	must("open", err)
	return connection
}

func must(what string, err error) {
	if err != nil {
		fmt.Printf("FAILED %s: %v\n", what, err)
		os.Exit(1)
	}
}

func equal[T comparable](what string, found, expected T) {
	if found != expected {
		fmt.Printf("FAILED %s: %v instead of %v\n", what, found, expected)
		os.Exit(1)
	}
}

func code(err error) int32 {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		return exception.Code
	}
	return -1
}

func scalars(ctx context.Context, connection driver.Conn) {
	rows, err := connection.Query(ctx, `SELECT toUInt8(7), toInt64(-9), 1.5, 'text', toLowCardinality('low'),
		CAST(NULL, 'Nullable(String)'), [1, 2, 3]::Array(UInt32), toDateTime('2026-01-02 03:04:05', 'UTC'),
		toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC'), toDate('2026-01-02'), map('k', 1)::Map(String, UInt8),
		toUUID('12345678-1234-5678-1234-567812345678')`)
	must("scalars", err)
	var (
		small   uint8
		large   int64
		float   float64
		text    string
		low     string
		nothing *string
		array   []uint32
		second  time.Time
		milli   time.Time
		day     time.Time
		pairs   map[string]uint8
		id      string
	)
	equal("a row", rows.Next(), true)
	must("scan", rows.Scan(&small, &large, &float, &text, &low, &nothing, &array, &second, &milli, &day, &pairs, &id))
	equal("UInt8", small, 7)
	equal("Int64", large, -9)
	equal("Float64", float, 1.5)
	equal("String", text, "text")
	equal("LowCardinality", low, "low")
	equal("Nullable", nothing == nil, true)
	equal("Array", fmt.Sprint(array), "[1 2 3]")
	equal("DateTime", second.UTC().Format(time.RFC3339), "2026-01-02T03:04:05Z")
	equal("DateTime64", milli.UTC().Format(time.RFC3339Nano), "2026-01-02T03:04:05.678Z")
	equal("Date", day.Format(time.DateOnly), "2026-01-02")
	equal("Map", pairs["k"], 1)
	equal("UUID", id, "12345678-1234-5678-1234-567812345678")
	must("close", rows.Close())
}

func noRows(ctx context.Context, connection driver.Conn) {
	rows, err := connection.Query(ctx, "SELECT 1 AS a, toLowCardinality('x') AS b, now64(3) AS c WHERE 0")
	must("no rows", err)
	equal("columns of no rows", strings.Join(rows.Columns(), ","), "a,b,c")
	equal("type of no rows", rows.ColumnTypes()[1].DatabaseTypeName(), "LowCardinality(String)")
	equal("no row", rows.Next(), false)
	must("no rows", rows.Err())
}

func manyRows(ctx context.Context, connection driver.Conn) {
	rows, err := connection.Query(ctx, "SELECT number, concat('text ', toString(number)) FROM numbers(200000)")
	must("many rows", err)
	var count, sum uint64
	for rows.Next() {
		var number uint64
		var text string
		must("scan", rows.Scan(&number, &text))
		count++
		sum += number
	}
	must("many rows", rows.Err())
	equal("count of rows", count, 200000)
	equal("sum of rows", sum, 199999*100000)
}

func failures(ctx context.Context, connection driver.Conn) {
	_, err := connection.Query(ctx, "SELECT * FROM nowhere")
	equal("unknown table", code(err), 60)
	equal("syntax", code(connection.Exec(ctx, "SELEC 1")), 62)
	rows, err := connection.Query(ctx, "SELECT throwIf(number = 9000000) FROM numbers(10000000)")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
	}
	equal("an error in mid-stream", err != nil, true)
}

func batch(ctx context.Context, connection driver.Conn) {
	table := os.Getenv("FRONT_TABLE")
	must("create", connection.Exec(ctx, "CREATE TABLE "+table+
		" (a UInt32, b LowCardinality(String), c DateTime64(3, 'UTC'), d Array(String)) ENGINE = MergeTree ORDER BY a"))
	rows, err := connection.PrepareBatch(ctx, "INSERT INTO "+table)
	must("prepare", err)
	for number := range uint32(10000) {
		must("append", rows.Append(number, fmt.Sprint(number%7), time.UnixMilli(int64(number)), []string{"x", "y"}))
	}
	must("send", rows.Send())
	var count, sum uint64
	must("read back", connection.QueryRow(ctx, "SELECT count(), sum(a) FROM "+table+" WHERE b = {b:String}",
		clickhouse.Named("b", "3")).Scan(&count, &sum))
	equal("rows of the batch", count, 1429)
	must("drop", connection.Exec(ctx, "DROP TABLE "+table))
}

func main() {
	ctx := context.Background()
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionGZIP, clickhouse.CompressionNone} {
		connection := open(method)
		must("ping", connection.Ping(ctx))
		version, err := connection.ServerVersion()
		must("version", err)
		equal("revision", version.Revision, 0)
		for _, check := range []struct {
			name string
			run  func(context.Context, driver.Conn)
		}{{"scalars", scalars}, {"noRows", noRows}, {"manyRows", manyRows}, {"failures", failures}, {"batch", batch}} {
			if check.name == "batch" && os.Getenv("FRONT_TABLE") == "" {
				continue
			}
			check.run(ctx, connection)
			fmt.Println("ok", method, check.name)
		}
		must("close", connection.Close())
	}
}
