module github.com/weftsync/weft

go 1.26
