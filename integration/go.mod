module github.com/weftsync/weft/integration

go 1.26

replace github.com/weftsync/weft => ../

require github.com/coder/websocket v1.8.15
