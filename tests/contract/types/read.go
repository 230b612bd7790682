// Reads events, one a line, and writes them again.
package main

import (
	"bufio"
	"fmt"
	"os"

	"types/statuses"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		event, err := statuses.UnmarshalSMSStatusEvent(in.Bytes())
		if err != nil {
			panic(err)
		}
		var last *bool = event.Data.Final
		event.Data.Final = last
		out, err := event.Marshal()
		if err != nil {
			panic(err)
		}
		fmt.Println(string(out))
	}
}
